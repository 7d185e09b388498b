use super::super::profiles::{Asked, asked, respond};
use super::super::{NotTaken, Taking};
use super::*;

/// Says what it was asked for.
struct Fake(Option<NotTaken>);

impl Fake {
    fn taking(&self, said: String) -> Taking<'_> {
        let outcome = self.0.clone().map_or(Ok(said.into_bytes()), Err);
        Box::pin(std::future::ready(outcome))
    }
}

impl Profiles for Fake {
    fn cpu(&self, _: SystemTime, time: Duration) -> Taking<'_> {
        self.taking(format!("cpu {}", time.as_secs()))
    }

    fn heap(&self, _: SystemTime) -> Taking<'_> {
        self.taking("heap".into())
    }
}

async fn ask(profiles: Option<Fake>, path: &str) -> (u16, String) {
    let profiles = profiles.map(|p| Box::new(p) as Box<dyn Profiles>);
    let state = State { profiles, ..state(Readiness::Live) };
    let asked = asked(Port::Admin, &path.parse().unwrap()).unwrap();
    let response = respond(&state, asked).await;
    let status = response.status().as_u16();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[test]
fn only_the_admin_port_has_them() {
    let path = "/debug/pprof/heap".parse().unwrap();
    assert_eq!(asked(Port::Admin, &path), Some(Asked::Heap));
    assert_eq!((asked(Port::Prometheus, &path), asked(Port::Health, &path)), (None, None));
    for other in ["/debug", "/debug/pprofile", "/stats"] {
        assert_eq!(asked(Port::Admin, &other.parse().unwrap()), None, "{other}");
    }
}

#[tokio::test]
async fn off_says_how_to_turn_it_on() {
    for path in
        ["/debug/pprof", "/debug/pprof/", "/debug/pprof/profile?seconds=1", "/debug/pprof/heap", "/debug/pprof/x"]
    {
        let (status, body) = ask(None, path).await;
        assert_eq!(status, 404, "{path}");
        assert!(body.contains("--profiling") && body.contains("MESH_PROFILING=true"), "{body}");
    }
}

#[tokio::test]
async fn what_is_taken() {
    for (path, status, body) in [
        ("/debug/pprof/profile?seconds=1", 200, "cpu 1"),
        ("/debug/pprof/profile?debug=0&seconds=60", 200, "cpu 60"),
        ("/debug/pprof/profile", 200, "cpu 30"),
        ("/debug/pprof/heap", 200, "heap"),
        ("/debug/pprof/profile?seconds=0", 400, "seconds is a whole number from 1 to 60, not \"0\"\n"),
        ("/debug/pprof/profile?seconds=61", 400, "seconds is a whole number from 1 to 60, not \"61\"\n"),
        ("/debug/pprof/profile?seconds=1.5", 400, "seconds is a whole number from 1 to 60, not \"1.5\"\n"),
        ("/debug/pprof/profile?seconds=", 400, "seconds is a whole number from 1 to 60, not \"\"\n"),
        ("/debug/pprof/goroutine", 404, "invalid path; there are /debug/pprof/profile and /debug/pprof/heap\n"),
    ] {
        assert_eq!(ask(Some(Fake(None)), path).await, (status, body.to_owned()), "{path}");
    }
    assert!(ask(Some(Fake(None)), "/debug/pprof/").await.1.contains("/debug/pprof/heap  what"));
    for (why, status, body) in [
        (NotTaken::Busy, 429, "another profile is being taken; one at a time\n"),
        (NotTaken::Failed("no timer".into()), 500, "the profile could not be taken: no timer\n"),
    ] {
        assert_eq!(ask(Some(Fake(Some(why))), "/debug/pprof/heap").await, (status, body.to_owned()));
    }
}
