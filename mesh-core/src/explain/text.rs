//! An explanation as text.

use std::fmt;

use super::{Decided, Explanation, Hop, Outcome};

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.value)?;
        match (&self.object, &self.location) {
            (Some(o), Some(l)) => write!(f, "  ({o} {}, {l})", self.field),
            (Some(o), None) => write!(f, "  ({o} {})", self.field),
            (None, _) => write!(f, "  ({})", self.field),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(status) = self.status {
            write!(f, "{status} ")?;
        }
        if !self.flag.is_empty() {
            write!(f, "{} ", self.flag)?;
        }
        f.write_str(&self.text)?;
        if !self.body.is_empty() {
            write!(f, "; body {:?}", self.body)?;
        }
        Ok(())
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.request)?;
        for (i, hop) in self.hops.iter().enumerate() {
            writeln!(f, "{}. {} {}, configuration {}", i + 1, hop.place, hop.proxy, hop.explain_config_hash)?;
            hop_lines(f, hop)?;
        }
        writeln!(f, "outcome: {}", self.outcome)
    }
}

fn hop_lines(f: &mut fmt::Formatter<'_>, hop: &Hop) -> fmt::Result {
    if let Some(name) = &hop.name {
        writeln!(f, "   name          {name}")?;
    }
    let lines = [
        ("listener", &hop.listener),
        ("tls", &hop.tls),
        ("virtual host", &hop.virtual_host),
        ("route", &hop.route),
        ("timeout", &hop.timeout),
        ("retries", &hop.retries),
    ];
    for (what, decided) in lines {
        if let Some(d) = decided {
            writeln!(f, "   {what:<13} {d}")?;
        }
    }
    for p in &hop.policies {
        writeln!(f, "   {:<13} {}", p.what, p.decided)?;
    }
    for change in &hop.changes {
        writeln!(f, "   change        {change}")?;
    }
    for c in &hop.clusters {
        writeln!(f, "   cluster       {:.1}% {}", c.share, c.cluster)?;
        if let Some(b) = &c.balancer {
            writeln!(f, "     balancer    {b}")?;
        }
        for p in &c.policies {
            writeln!(f, "     {:<11} {}", p.what, p.decided)?;
        }
        for e in &c.endpoints {
            writeln!(f, "     endpoint    {e}")?;
        }
        for t in &c.transport {
            writeln!(f, "     transport   {t}")?;
        }
        if let Some(r) = &c.reply {
            writeln!(f, "     fails       {r}")?;
        }
    }
    if let Some(miss) = &hop.miss {
        if let Some(nearest) = &miss.nearest {
            writeln!(f, "   nearest       {nearest}")?;
        }
        for why in &miss.why {
            writeln!(f, "   why not       {why}")?;
        }
        if let Some(fix) = &miss.fix {
            writeln!(f, "   fix           {fix}")?;
        }
    }
    if let Some(r) = &hop.reply {
        writeln!(f, "   reply         {r}")?;
    }
    Ok(())
}
