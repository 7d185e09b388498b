use http::StatusCode;

use super::*;
use crate::snapshot::Share;

#[test]
fn delay_and_abort_are_decided_independently() {
    let delay = DelayPlan { fixed: Duration::from_secs(7), share: Share::percent(50.0) };
    let status = AbortStatus::Http(StatusCode::FORBIDDEN);
    let abort = AbortPlan { status, share: Share::percent(30.0) };
    let (low, high) = (0, u64::MAX);
    for (bits, wanted) in [
        ([low, low], FaultDecision { delay: Some(delay.fixed), abort: Some(status) }),
        ([low, high], FaultDecision { delay: Some(delay.fixed), abort: None }),
        ([high, low], FaultDecision { delay: None, abort: Some(status) }),
        ([high, high], FaultDecision::default()),
    ] {
        let mut bits = bits.into_iter();
        assert_eq!(decide_fault(Some(&delay), Some(&abort), || bits.next().unwrap()), wanted);
    }
    // What is not configured asks for no randomness.
    let mut asked = 0;
    let none = decide_fault(None, Some(&abort), || {
        asked += 1;
        low
    });
    assert_eq!((none, asked), (FaultDecision { delay: None, abort: Some(status) }, 1));
}
