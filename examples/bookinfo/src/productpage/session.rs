//! Who is signed in. There are no passwords in this shop, so the cookie just carries the name.

use http::HeaderMap;
use http::header::COOKIE;

use crate::text;

const NAME: &str = "session";
const ATTRIBUTES: &str = "Path=/; HttpOnly; SameSite=Lax";
/// Longest user name, in characters; the rest is cut off.
const LONGEST: usize = 64;

/// The `set-cookie` value that ends a session.
pub(crate) const LOGGED_OUT: &str = "session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0";

/// The `set-cookie` value for a sign-in form. A form without a name ends the session.
pub(crate) fn login(form: &str) -> String {
    let name = text::form_field(form, "username").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    if name.is_empty() {
        LOGGED_OUT.to_owned()
    } else {
        format!("{NAME}={}; {ATTRIBUTES}", text::percent_encode(&name))
    }
}

/// The user of a request.
pub(crate) fn user(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let value = pairs.find(|(name, _)| *name == NAME).map(|(_, value)| text::percent_decode(value))?;
    Some(value).filter(|user| !user.is_empty())
}
