//! Prometheus' text format, which Envoy writes, out of OpenMetrics', which the library writes.

/// The same metrics: counters are declared with their whole name, bounds are written as short as they go, and neither
/// units nor an end are marked.
pub(super) fn plain(open_metrics: &str) -> String {
    let lines: Vec<&str> = open_metrics.lines().collect();
    let mut out = String::with_capacity(open_metrics.len());
    for (at, line) in lines.iter().enumerate() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => continue,
            (Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest)) => {
                // The type is in the line itself or in the next one.
                let counter = [Some(line), lines.get(at + 1)].into_iter().flatten();
                let total =
                    if counter.clone().any(|l| **l == *format!("# TYPE {name} counter")) { "_total" } else { "" };
                out.push_str(&format!("# {what} {name}{total} {rest}"));
            }
            _ => sample(line, &mut out),
        }
        out.push('\n');
    }
    out
}

fn sample(line: &str, out: &mut String) {
    // Values of other labels can't hold this text: quotes in them are escaped.
    let Some((before, rest)) = line.split_once("le=\"") else { return out.push_str(line) };
    let Some((bound, rest)) = rest.split_once('"') else { return out.push_str(line) };
    out.push_str(before);
    out.push_str("le=\"");
    out.push_str(bound.strip_suffix(".0").unwrap_or(bound));
    out.push('"');
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn prometheus_text() {
        let open_metrics = "# HELP a_b Things.\n# TYPE a_b counter\n# UNIT a_b bytes\na_b_total{x=\"le\"} 1\n\
             # HELP h Sizes.\n# TYPE h histogram\nh_sum{} 0.0\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"10.0\",y=\"1.0\"} 1\n\
             h_bucket{le=\"+Inf\"} 1\n# HELP g G.\n# TYPE g gauge\ng{} 1\n# EOF\n";
        let text = "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total{x=\"le\"} 1\n\
             # HELP h Sizes.\n# TYPE h histogram\nh_sum{} 0.0\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"10\",y=\"1.0\"} 1\n\
             h_bucket{le=\"+Inf\"} 1\n# HELP g G.\n# TYPE g gauge\ng{} 1\n";
        assert_eq!(plain(open_metrics), text);
    }
}
