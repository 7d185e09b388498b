//! From stacks of addresses to pprof's message.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::proto;

/// What was sampled.
#[derive(Debug)]
pub(super) struct Profile<'a> {
    /// What the values of stacks are, with units.
    pub(super) kinds: &'a [(&'a str, &'a str)],
    /// Which of them is shown first.
    pub(super) default: &'a str,
    /// What lies between two samples, its unit, and how much.
    pub(super) period: (&'a str, &'a str, i64),
    /// When it was taken.
    pub(super) at: SystemTime,
    /// How long that took.
    pub(super) lasted: Duration,
    pub(super) stacks: Vec<Stack>,
}

/// A stack.
#[derive(Debug, PartialEq)]
pub(super) struct Stack {
    /// Where it was, then the addresses to which calls return.
    pub(super) addresses: Vec<usize>,
    /// One for each kind.
    pub(super) values: Vec<i64>,
    /// Name of the thread.
    pub(super) thread: Option<String>,
}

/// A part of a file in memory that is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) offset: u64,
    pub(super) file: String,
    /// In hexadecimal; empty if there is none.
    pub(super) build_id: String,
    /// It is the program itself.
    pub(super) own: bool,
}

/// A function at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// For people.
    pub(super) name: String,
    /// As the symbol table has it.
    pub(super) symbol: String,
    pub(super) file: String,
    pub(super) line: u32,
}

impl Profile<'_> {
    /// `names` are the functions at an address, the innermost first.
    pub(super) fn encode(&self, mappings: &[Mapping], names: impl Fn(usize) -> Vec<Name>) -> proto::Profile {
        let mut to = Encoder::new(mappings);
        let samples = self.stacks.iter().map(|stack| to.sample(stack, &names)).collect();
        let kind = |strings: &mut Strings, (kind, unit): (&str, &str)| proto::ValueType {
            kind: strings.place(kind),
            unit: strings.place(unit),
        };
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let (period, unit, every) = self.period;
        proto::Profile {
            sample_type: self.kinds.iter().map(|k| kind(&mut to.strings, *k)).collect(),
            sample: samples,
            mapping: to.mapped(),
            period_type: Some(kind(&mut to.strings, (period, unit))),
            period: every,
            time_nanos: nanos(self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
            duration_nanos: nanos(self.lasted),
            default_sample_type: to.strings.place(self.default),
            location: to.locations,
            function: to.functions,
            string_table: to.strings.all,
        }
    }
}

/// The table of strings.
struct Strings {
    all: Vec<String>,
    places: HashMap<String, i64>,
}

impl Strings {
    fn new() -> Self {
        Self { all: vec![String::new()], places: HashMap::from([(String::new(), 0)]) }
    }

    fn place(&mut self, text: &str) -> i64 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = i64::try_from(self.all.len()).unwrap_or_default();
        self.all.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        place
    }
}

struct Encoder<'a> {
    strings: Strings,
    mappings: &'a [Mapping],
    /// Whether a name was found in each of them.
    named: Vec<bool>,
    locations: Vec<proto::Location>,
    by_address: HashMap<usize, u64>,
    functions: Vec<proto::Function>,
    by_name: HashMap<(i64, i64, i64), u64>,
}

/// Ids are places in a list, from 1.
fn id(of: usize) -> u64 {
    u64::try_from(of).map_or(0, |n| n + 1)
}

impl<'a> Encoder<'a> {
    fn new(mappings: &'a [Mapping]) -> Self {
        Self {
            strings: Strings::new(),
            mappings,
            named: vec![false; mappings.len()],
            locations: Vec::new(),
            by_address: HashMap::new(),
            functions: Vec::new(),
            by_name: HashMap::new(),
        }
    }

    fn sample(&mut self, stack: &Stack, names: &impl Fn(usize) -> Vec<Name>) -> proto::Sample {
        let mut location_id = Vec::with_capacity(stack.addresses.len());
        for (depth, address) in stack.addresses.iter().enumerate() {
            // A call returns behind itself, which may be another function already.
            let at = if depth == 0 { *address } else { address.saturating_sub(1) };
            location_id.push(self.location(at, names));
        }
        let thread = stack
            .thread
            .as_ref()
            .map(|name| proto::Label { key: self.strings.place("thread"), text: self.strings.place(name) });
        proto::Sample { location_id, value: stack.values.clone(), label: thread.into_iter().collect() }
    }

    fn location(&mut self, address: usize, names: &impl Fn(usize) -> Vec<Name>) -> u64 {
        if let Some(known) = self.by_address.get(&address) {
            return *known;
        }
        let mapping = self.mappings.iter().position(|m| (m.start..m.end).contains(&address));
        let names = names(address);
        if let Some(mapping) = mapping.filter(|_| !names.is_empty()) {
            self.named[mapping] = true;
        }
        let line = names
            .iter()
            .map(|name| proto::Line { function_id: self.function(name), line: i64::from(name.line) })
            .collect();
        let new = id(self.locations.len());
        let address_64 = u64::try_from(address).unwrap_or_default();
        self.locations.push(proto::Location { id: new, mapping_id: mapping.map_or(0, id), address: address_64, line });
        self.by_address.insert(address, new);
        new
    }

    fn function(&mut self, name: &Name) -> u64 {
        let key = [&name.name, &name.symbol, &name.file].map(|text| self.strings.place(text));
        let [name, system_name, filename] = key;
        let new = id(self.functions.len());
        *self.by_name.entry((name, system_name, filename)).or_insert_with(|| {
            self.functions.push(proto::Function { id: new, name, system_name, filename });
            new
        })
    }

    fn mapped(&mut self) -> Vec<proto::Mapping> {
        let mut all = Vec::with_capacity(self.mappings.len());
        for (i, m) in self.mappings.iter().enumerate() {
            let at = |address: usize| u64::try_from(address).unwrap_or_default();
            all.push(proto::Mapping {
                id: id(i),
                memory_start: at(m.start),
                memory_limit: at(m.end),
                file_offset: m.offset,
                filename: self.strings.place(&m.file),
                build_id: self.strings.place(&m.build_id),
                has_functions: self.named[i],
            });
        }
        // The first one is the program, as readers expect it; ids say who is who.
        all.sort_by_key(|m| !self.mappings[usize::try_from(m.id).map_or(0, |id| id - 1)].own);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: usize, file: &str, own: bool) -> Mapping {
        Mapping { start, end: start + 0x1000, offset: 0x40, file: file.into(), build_id: "abcd".into(), own }
    }

    fn names(address: usize) -> Vec<Name> {
        let name = |n: &str| Name { name: n.into(), symbol: format!("_Z{n}"), file: "a.rs".into(), line: 7 };
        match address {
            0x1010 => vec![name("inlined"), name("leaf")],
            0x101f => vec![name("caller")],
            _ => vec![],
        }
    }

    #[test]
    fn stacks_share_strings_places_and_functions() {
        let stack = |addresses: &[usize], values: &[i64], thread: Option<&str>| Stack {
            addresses: addresses.to_vec(),
            values: values.to_vec(),
            thread: thread.map(str::to_owned),
        };
        let profile = Profile {
            kinds: &[("samples", "count"), ("cpu", "nanoseconds")],
            default: "cpu",
            period: ("cpu", "nanoseconds", 10_000_000),
            at: SystemTime::UNIX_EPOCH + Duration::from_nanos(5),
            lasted: Duration::from_secs(1),
            stacks: vec![
                stack(&[0x1010, 0x1020, 0x9000], &[2, 20], Some("worker-0")),
                stack(&[0x1020, 0x1020], &[1, 10], None),
            ],
        };
        let mappings = [mapping(0x8000, "libc.so.6", false), mapping(0x1000, "mesh-proxy", true)];
        let told = profile.encode(&mappings, names);
        let text = |place: i64| told.string_table[usize::try_from(place).unwrap()].as_str();
        assert_eq!(text(0), "");
        let kinds: Vec<_> = told.sample_type.iter().map(|t| (text(t.kind), text(t.unit))).collect();
        assert_eq!(kinds, profile.kinds);
        assert_eq!((text(told.default_sample_type), told.period), ("cpu", 10_000_000));
        assert_eq!((told.time_nanos, told.duration_nanos), (5, 1_000_000_000));
        // The program comes first, and keeps its id.
        let files: Vec<_> = told.mapping.iter().map(|m| (m.id, text(m.filename), m.has_functions)).collect();
        assert_eq!(files, [(2, "mesh-proxy", true), (1, "libc.so.6", false)]);
        assert_eq!((told.mapping[0].memory_start, told.mapping[0].file_offset), (0x1000, 0x40));
        assert_eq!(text(told.mapping[0].build_id), "abcd");
        // Where a call returns to is one behind the call; the innermost address is itself.
        let places: Vec<_> = told.location.iter().map(|l| (l.address, l.mapping_id, l.line.len())).collect();
        assert_eq!(places, [(0x1010, 2, 2), (0x101f, 2, 1), (0x8fff, 1, 0), (0x1020, 2, 0)]);
        let functions: Vec<_> = told.function.iter().map(|f| (text(f.name), text(f.system_name))).collect();
        assert_eq!(functions, [("inlined", "_Zinlined"), ("leaf", "_Zleaf"), ("caller", "_Zcaller")]);
        assert_eq!(
            (told.sample[0].location_id.as_slice(), told.sample[0].value.as_slice()),
            (&[1, 2, 3][..], &[2, 20][..])
        );
        assert_eq!(told.sample[1].location_id, [4, 2]);
        let label = told.sample[0].label[0];
        assert_eq!((text(label.key), text(label.text), told.sample[1].label.len()), ("thread", "worker-0", 0));
    }
}
