use super::*;
use crate::analyze::{account, account_of};
use crate::compile::sim::Sim;

/// Rules that decide over each other, include each other, and some that have nothing to do with them.
const RULES: &str = include_str!("rules.yaml");

#[test]
fn what_is_said_about_one_object_is_what_is_said_among_all() {
    let sim = Sim::of(RULES);
    let world = &sim.world;
    let whole = account(world);
    let mut some = 0;
    let keys = world.virtual_services().iter().map(|o| &o.key);
    let keys = keys.chain(world.destination_rules().iter().map(|o| &o.key));
    for key in keys.chain(world.gateways().iter().map(|o| &o.key)).chain(world.services().iter().map(|s| &s.key)) {
        let expected: Vec<_> = whole.iter().filter(|r| r.object == *key).cloned().collect();
        assert_eq!(account_of(world, |k| k == key), expected, "{key}");
        some += usize::from(!expected.is_empty());
    }
    assert!(some >= 3, "{whole:#?}");
    assert!(account_of(world, |k| &*k.name == "nobody").is_empty());
}

#[test]
fn only_what_is_concerned_is_left() {
    let sim = Sim::of(RULES);
    let names = |name: &str| {
        let key = sim.world.virtual_services().iter().map(|v| &v.key).find(|k| &*k.name == name).unwrap();
        let narrow = narrowed(&sim.world, &BTreeSet::from([key.clone()])).unwrap();
        let all = narrow.virtual_services().iter().map(|v| v.key.name.to_string());
        let rules = narrow.destination_rules().iter().map(|r| r.key.name.to_string());
        (all.chain(rules).collect::<Vec<_>>(), narrow.services().len())
    };
    assert_eq!(names("alone"), (vec!["alone".into(), "c-rule".into()], 1));
    let (second, _) = names("b-second");
    assert!(second.contains(&"b-first".into()) && second.contains(&"b-rule".into()), "{second:?}");
    let (inner, _) = names("inner");
    assert!(inner.contains(&"outer".into()) && !inner.contains(&"alone".into()), "{inner:?}");
}
