use super::*;

fn facts() -> Facts {
    Facts::default()
}

#[test]
fn each_cause_has_its_own_advice() {
    let cases = [
        (
            Step::Clone,
            libc::ENOSPC,
            Facts { user_namespaces_limited_to_none: true, ..facts() },
            "max_user_namespaces=28633",
        ),
        (Step::Clone, libc::ENOSPC, facts(), "/proc/sys/user"),
        (Step::Clone, libc::EPERM, Facts { only_root_may_clone: true, ..facts() }, "unprivileged_userns_clone=1"),
        (Step::UserMap, libc::EPERM, Facts { apparmor_restricts: true, ..facts() }, "AppArmor"),
        (Step::Loopback, libc::EPERM, Facts { apparmor_restricts: true, ..facts() }, "AppArmor"),
        (Step::Mount, libc::EACCES, Facts { apparmor_restricts: true, in_container: true, ..facts() }, "AppArmor"),
        (Step::Clone, libc::EPERM, Facts { in_container: true, ..facts() }, "seccomp=unconfined"),
        (Step::Clone, libc::EPERM, facts(), "security policy"),
        (Step::Clone, libc::EINVAL, facts(), "no user namespaces"),
        (Step::Nftables, libc::EOPNOTSUPP, facts(), "modprobe"),
        (Step::Links, libc::EOPNOTSUPP, facts(), "modprobe"),
        (Step::Nftables, libc::ENOMEM, facts(), "refuses making nf_tables rules"),
    ];
    for (step, errno, facts, advice) in cases {
        let message = explain(step, errno, &facts);
        assert!(message.contains(advice), "{step:?} {errno}: {message}");
        assert!(message.contains("explicit mode is used"), "{message}");
    }
}
