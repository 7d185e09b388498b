//! The order of a stack, printed: read off its type, so that it is what is called and not what somebody wrote down.

/// The Layers of a stack from the outside in: `Meter > [Fault] > (Trace) > Router`. Those in square brackets are there where
/// the configuration asks for them (an [`Opt`](super::Opt), or what tower's `option_layer` makes), those in round ones are slots for extensions.
///
/// ```
/// use mesh_core::layers::{Fault, Opt, Timeout, order};
///
/// struct Cluster;
/// type Stack = Timeout<Opt<Fault<Cluster>, Cluster>>;
/// assert_eq!(order::<Stack>(), "Timeout > [Fault] > Cluster");
/// ```
#[must_use]
pub fn order<S: ?Sized>() -> String {
    let mut names = Vec::new();
    let mut rest = Some(std::any::type_name::<S>());
    while let Some(stack) = rest {
        let (name, arguments) = split(stack);
        rest = match (name, &*arguments) {
            ("Opt" | "Either", [filled, empty]) => {
                let (name, arguments) = split(filled);
                names.push(match &*arguments {
                    [slot, _] if name == "Slot" => format!("({})", split(slot).0),
                    _ => format!("[{name}]"),
                });
                Some(empty)
            }
            // Closures are called what the function around them is called.
            ("ServiceFn", [closure]) => {
                let function = closure.strip_suffix("::{{closure}}").unwrap_or(closure);
                names.push(split(function).0.to_owned());
                None
            }
            (name, arguments) => {
                names.push(name.to_owned());
                arguments.last().copied()
            }
        };
    }
    names.join(" > ")
}

/// The name of a type without its path, and its type arguments.
fn split(full: &str) -> (&str, Vec<&str>) {
    let (path, arguments) = full.split_once('<').map_or((full, ""), |(path, rest)| (path, rest));
    let name = path.rsplit("::").next().unwrap_or(path);
    let mut depth = 0_usize;
    let parts = arguments.strip_suffix('>').unwrap_or(arguments).split(|c| {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    (name, parts.map(str::trim).filter(|part| !part.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{BoxService, Meter, Opt, Outlier, Slot};

    struct Trace;

    fn of<S>(_: S) -> String {
        order::<S>()
    }

    #[test]
    fn orders_are_read_off_types() {
        assert_eq!(order::<BoxService>(), "BoxService");
        type Traced<S> = Opt<Slot<Trace, S>, S>;
        assert_eq!(
            order::<Meter<Traced<Opt<Outlier<BoxService>, BoxService>>>>(),
            "Meter > (Trace) > [Outlier] > BoxService"
        );
        assert_eq!(order::<Meter<Slot<Trace, BoxService>>>(), "Meter > Slot > BoxService");
        assert_eq!(of(tower::service_fn(|_: ()| async { Ok::<_, ()>(()) })), "orders_are_read_off_types");
    }
}
