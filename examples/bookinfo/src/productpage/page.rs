//! The HTML of the two pages. Everything that comes from outside passes through `escape`.

use crate::details::Details;
use crate::reviews::{ProductReviews, Rating, Review};
use crate::text::escape;

/// A part of the page that another service provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Details,
    Reviews,
    Ratings,
}

impl Part {
    /// What a user reads when the part is missing.
    pub(crate) fn unavailable(self) -> &'static str {
        match self {
            Self::Details => "Sorry, product details are currently unavailable for this book.",
            Self::Reviews => "Sorry, product reviews are currently unavailable for this book.",
            Self::Ratings => "Sorry, product ratings are currently unavailable for this book.",
        }
    }

    fn error_title(self) -> &'static str {
        match self {
            Self::Details => "Error fetching product details!",
            Self::Reviews => "Error fetching product reviews!",
            Self::Ratings => "Error fetching product ratings!",
        }
    }
}

/// The book that the shop sells, as `/api/v1/products` shows it.
#[derive(serde::Serialize)]
pub(crate) struct Product {
    pub(crate) id: u32,
    pub(crate) title: &'static str,
    #[serde(rename = "descriptionHtml")]
    pub(crate) description_html: &'static str,
}

/// The only one.
pub(crate) const PRODUCT: Product = Product {
    id: 0,
    title: "The Comedy of Errors",
    description_html: "Two brothers and their two servants, all of them twins, were parted at sea as children. Now all four \
        walk the streets of <em>Ephesus</em> on one day, and every door, debt and dinner goes to the wrong man. It is among \
        Shakespeare's earliest plays, his shortest, and the one that lives most on puns and knockabout.",
};

/// All that the product page shows; `None` for a part that could not be fetched.
pub(crate) struct Page<'a> {
    pub(crate) user: Option<&'a str>,
    pub(crate) details: Option<Details>,
    pub(crate) reviews: Option<ProductReviews>,
    pub(crate) pod: &'a str,
}

/// The product page.
pub(crate) fn product(page: &Page<'_>) -> String {
    let main = format!(
        "<section class=\"hero\"><div class=\"cover\" aria-hidden=\"true\"><b>The<br>Comedy<br>of<br>Errors</b>\
         <i>W. Shakespeare</i></div>\n<div><p class=\"kicker\">Book of the day</p><h1>{}</h1>\n<p class=\"lead\">{}</p></div>\
         </section>\n<section class=\"card\" id=\"details\">{}</section>\n<section class=\"card\" id=\"reviews\">{}</section>",
        PRODUCT.title,
        PRODUCT.description_html,
        page.details.as_ref().map_or_else(|| missing(Part::Details), details),
        page.reviews.as_ref().map_or_else(|| missing(Part::Reviews), reviews),
    );
    frame(&session_bar(page.user), &main, &format!("This page was made by <code>{}</code>", escape(page.pod)))
}

/// The first page, with the ways into the application.
pub(crate) fn landing(services: &[(&str, String)]) -> String {
    let rows: String = services
        .iter()
        .map(|(name, address)| {
            format!("<tr><th scope=\"row\">{}</th><td><code>{}</code></td></tr>\n", escape(name), escape(address))
        })
        .collect();
    let main = format!(
        "<section class=\"intro\"><p class=\"kicker\">Bookinfo</p><h1>A shop with one book</h1>\n<p class=\"lead\">Four small \
         services make one page. It is a playground for a service mesh: move traffic between versions, break a service, \
         delay another, and watch the page.</p>\n<p><a class=\"button\" href=\"/productpage?u=normal\">Normal user</a> \
         <a class=\"button quiet\" href=\"/productpage?u=test\">Test user</a></p></section>\n\
         <section class=\"card\"><h2>Services behind the page</h2><table>{rows}</table></section>\n\
         <section class=\"card\"><h2>The same as JSON</h2><ul class=\"links\">\
         <li><a href=\"/api/v1/products\">/api/v1/products</a></li>\
         <li><a href=\"/api/v1/products/0\">/api/v1/products/0</a></li>\
         <li><a href=\"/api/v1/products/0/reviews\">/api/v1/products/0/reviews</a></li>\
         <li><a href=\"/api/v1/products/0/ratings\">/api/v1/products/0/ratings</a></li></ul></section>"
    );
    frame("", &main, "Nothing here is for sale")
}

fn frame(bar: &str, main: &str, foot: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>Simple Bookstore App</title>\n\
         <link rel=\"icon\" href=\"/static/icon.svg\">\n<link rel=\"stylesheet\" href=\"/static/style.css\">\n</head>\n<body>\n\
         <header><a class=\"brand\" href=\"/productpage\">Book<span>info</span></a>{bar}</header>\n<main>\n{main}\n</main>\n\
         <footer>{foot}</footer>\n</body>\n</html>\n"
    )
}

fn session_bar(user: Option<&str>) -> String {
    match user {
        Some(user) => format!(
            "<div class=\"session\"><span>Signed in as <b id=\"user\">{}</b></span> \
             <a class=\"button quiet\" href=\"/logout\">Sign out</a></div>",
            escape(user)
        ),
        None => "<form class=\"session\" method=\"post\" action=\"/login\"><label class=\"unseen\" for=\"username\">User \
                 name</label><input id=\"username\" name=\"username\" placeholder=\"Any name, no password\" maxlength=\"64\" \
                 autocomplete=\"off\" required> <button class=\"button\">Sign in</button></form>"
            .to_owned(),
    }
}

fn missing(part: Part) -> String {
    format!("<div class=\"error\" role=\"alert\"><h2>{}</h2><p>{}</p></div>", part.error_title(), part.unavailable())
}

fn details(details: &Details) -> String {
    let facts = [
        ("Author", escape(&details.author)),
        ("Year", details.year.to_string()),
        ("Type", escape(&details.binding)),
        ("Pages", details.pages.to_string()),
        ("Publisher", escape(&details.publisher)),
        ("Language", escape(&details.language)),
        ("ISBN-10", escape(&details.isbn_10)),
        ("ISBN-13", escape(&details.isbn_13)),
    ];
    let rows: String =
        facts.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n")).collect();
    format!("<h2>Book Details</h2>\n<dl>{rows}</dl>")
}

fn reviews(reviews: &ProductReviews) -> String {
    let list: String = reviews.reviews.iter().map(review).collect();
    let cluster = match reviews.clustername.as_str() {
        "" | "null" => String::new(),
        name => format!(" on cluster <u>{}</u>", escape(name)),
    };
    format!(
        "<h2>Book Reviews</h2>\n<div class=\"reviews\">{list}</div>\n<p class=\"served\">Reviews served by: <u>{}</u>{cluster}</p>",
        escape(&reviews.podname)
    )
}

fn review(review: &Review) -> String {
    let rating = match &review.rating {
        None => String::new(),
        Some(Rating::Stars { stars, color }) => self::stars(*stars, color),
        Some(Rating::Failed { error }) => format!("<p class=\"norating\" role=\"alert\">{}</p>", escape(error)),
    };
    let (text, name) = (escape(&review.text), escape(&review.reviewer));
    format!("<figure><blockquote>{text}</blockquote>{rating}<figcaption>{name}</figcaption></figure>\n")
}

fn stars(count: i64, color: &str) -> String {
    let full = usize::try_from(count.clamp(0, 5)).unwrap_or(0);
    let class = match color {
        "red" => "red",
        _ => "black",
    };
    format!(
        "<p class=\"stars {class}\" data-color=\"{}\" role=\"img\" aria-label=\"{full} of 5 stars\">{}<s>{}</s></p>",
        escape(color),
        "★".repeat(full),
        "☆".repeat(5 - full)
    )
}
