use super::*;

fn json(reviews: Vec<Review>) -> serde_json::Value {
    serde_json::to_value(ProductReviews {
        id: "0".into(),
        podname: "reviews-v2-abc".into(),
        clustername: "null".into(),
        reviews,
    })
    .unwrap()
}

#[test]
fn version_1_has_no_rating_key() {
    let value = json(reviews(|_| None));
    assert_eq!(value["podname"], "reviews-v2-abc");
    assert_eq!(value["reviews"].as_array().unwrap().len(), 2);
    assert!(value["reviews"][0].get("rating").is_none());
}

#[test]
fn stars_come_with_the_colour_of_the_version() {
    let stars = Stars::from([("Reviewer1".to_owned(), 5), ("Reviewer2".to_owned(), 4)]);
    for (version, expected) in [(Version::V2, "black"), (Version::V3, "red")] {
        let (color, _) = version.stars().unwrap();
        let value = json(reviews(|reviewer| Some(rating(Some(&stars), reviewer, color))));
        assert_eq!(value["reviews"][0]["rating"], serde_json::json!({"stars": 5, "color": expected}));
        assert_eq!(value["reviews"][1]["rating"]["stars"], 4);
    }
}

#[test]
fn a_missing_rating_is_an_error_text_for_that_reviewer_only() {
    let stars = Stars::from([("Reviewer1".to_owned(), 3)]);
    let value = json(reviews(|reviewer| Some(rating(Some(&stars), reviewer, "red"))));
    assert_eq!(value["reviews"][0]["rating"]["stars"], 3);
    assert_eq!(value["reviews"][1]["rating"], serde_json::json!({ "error": NO_RATINGS }));
    let value = json(reviews(|reviewer| Some(rating(None, reviewer, "red"))));
    assert_eq!(value["reviews"][0]["rating"]["error"], NO_RATINGS);
}

#[test]
fn answers_read_back() {
    let stars = Stars::from([("Reviewer1".to_owned(), 3)]);
    let text = json(reviews(|reviewer| Some(rating(Some(&stars), reviewer, "red")))).to_string();
    let read: ProductReviews = serde_json::from_str(&text).unwrap();
    assert!(matches!(read.reviews[0].rating, Some(Rating::Stars { stars: 3, .. })));
    assert!(matches!(read.reviews[1].rating, Some(Rating::Failed { .. })));
}
