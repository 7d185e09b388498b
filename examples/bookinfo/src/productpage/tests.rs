use super::*;
use crate::details::Details;
use crate::reviews::{ProductReviews, Rating, Review};

fn some_reviews(rating: Option<Rating>) -> ProductReviews {
    ProductReviews {
        id: "0".into(),
        podname: "reviews-v2-7f9c".into(),
        clustername: "null".into(),
        reviews: vec![Review { reviewer: "Reviewer1".into(), text: "Fine & <b>short</b>".into(), rating }],
    }
}

fn render(details: Option<Details>, reviews: Option<ProductReviews>, user: Option<&str>) -> String {
    page::product(&Page { user, details, reviews, pod: "productpage-v1-x" })
}

#[test]
fn a_whole_page_shows_all_parts() {
    let html = render(Some(Details::of(0)), Some(some_reviews(None)), None);
    for expected in [
        "<title>Simple Bookstore App</title>",
        "The Comedy of Errors",
        "123-1234567890",
        "Reviews served by: <u>reviews-v2-7f9c</u>",
        "action=\"/login\"",
        "productpage-v1-x",
    ] {
        assert!(html.contains(expected), "no {expected}");
    }
    assert!(!html.contains("Error fetching"));
    assert!(!html.contains("★"), "v1 has no stars");
    assert!(!html.contains("on cluster"));
}

#[test]
fn stars_have_number_and_colour() {
    let html = render(None, Some(some_reviews(Some(Rating::Stars { stars: 4, color: "red".into() }))), None);
    assert!(html.contains("class=\"stars red\"") && html.contains("★★★★<s>☆</s>"), "{html}");
    let html = render(None, Some(some_reviews(Some(Rating::Stars { stars: 99, color: "\"><script>".into() }))), None);
    assert!(html.contains("class=\"stars black\"") && html.contains("★★★★★<s></s>"), "{html}");
    assert!(!html.contains("<script>"));
}

#[test]
fn each_failing_service_has_its_own_error_text() {
    let no_details = render(None, Some(some_reviews(None)), None);
    assert!(no_details.contains("Error fetching product details!"));
    assert!(no_details.contains("Sorry, product details are currently unavailable for this book."));
    assert!(!no_details.contains("Error fetching product reviews!"));
    let no_reviews = render(Some(Details::of(0)), None, None);
    assert!(no_reviews.contains("Error fetching product reviews!"));
    assert!(no_reviews.contains("Sorry, product reviews are currently unavailable for this book."));
    assert!(no_reviews.contains("Book Details"));
    let rating = Rating::Failed { error: "Ratings service is currently unavailable".into() };
    assert!(render(None, Some(some_reviews(Some(rating))), None).contains("Ratings service is currently unavailable"));
}

#[test]
fn text_from_outside_is_escaped() {
    let mut reviews = some_reviews(None);
    reviews.podname = "<img src=x>".into();
    reviews.clustername = "<i>".into();
    let html = render(None, Some(reviews), Some("<script>alert(1)</script>"));
    assert!(html.contains("Fine &amp; &lt;b&gt;short&lt;/b&gt;"));
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(!html.contains("<script") && !html.contains("<img"));
    assert!(html.contains("on cluster <u>&lt;i&gt;</u>"));
}

#[test]
fn a_session_survives_the_cookie() {
    for (name, seen) in
        [("jason", "jason"), (" Jürgen+%E2%98%85 ", "Jürgen ★"), ("a%3Bb%3D%22c", "a;b=\"c"), ("x%0D%0Ay", "xy")]
    {
        let set_cookie = session::login(&format!("username={name}&passwd=secret"));
        assert!(set_cookie.contains("; HttpOnly") && set_cookie.contains("SameSite=Lax"), "{set_cookie}");
        let mut headers = HeaderMap::new();
        let pair = set_cookie.split(';').next().unwrap();
        headers.insert("cookie", HeaderValue::from_str(&format!("other=1; {pair}; last=2")).unwrap());
        assert_eq!(session::user(&headers).as_deref(), Some(seen));
    }
}

#[test]
fn no_name_is_no_session() {
    for form in ["", "username=", "username=+%20", "passwd=x", "username=%0A"] {
        assert_eq!(session::login(form), session::LOGGED_OUT, "{form}");
    }
    let mut headers = HeaderMap::new();
    headers.insert("cookie", HeaderValue::from_static("session="));
    assert_eq!(session::user(&headers), None);
}

#[test]
fn the_user_reaches_other_services_from_the_session_only() {
    let request = http::Request::get("/productpage").header("end-user", "mallory").header("x-request-id", "1");
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let headers = headers_for(&parts, None);
    assert!(headers.get("end-user").is_none());
    let headers = headers_for(&parts, Some("jason"));
    assert_eq!(
        (&headers["end-user"], &headers["x-request-id"]),
        (&HeaderValue::from_static("jason"), &HeaderValue::from_static("1"))
    );
}
