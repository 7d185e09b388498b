//! From parser events to values with places.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span as ParserSpan, Tag};
use serde_json::{Map, Value};

use super::{Document, MAX_ALIASED, MAX_DEPTH, SyntaxError, push_child, push_item, scalar};
use crate::api::Span;
use crate::api::spans::{KnownPaths, SpansBuilder};

/// A value with the places of its parts.
#[derive(Clone, Debug)]
pub(super) struct Node {
    span: Span,
    data: Data,
}

#[derive(Clone, Debug)]
enum Data {
    Scalar(Value),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
struct Entry {
    key: String,
    span: Span,
    value: Node,
}

impl Node {
    /// How many values this is.
    fn size(&self) -> usize {
        match &self.data {
            Data::Scalar(_) => 1,
            Data::Seq(items) => 1 + items.iter().map(Node::size).sum::<usize>(),
            Data::Map(entries) => 1 + entries.iter().map(|e| e.value.size()).sum::<usize>(),
        }
    }

    fn depth(&self) -> usize {
        match &self.data {
            Data::Scalar(_) => 0,
            Data::Seq(items) => 1 + items.iter().map(Node::depth).max().unwrap_or(0),
            Data::Map(entries) => 1 + entries.iter().map(|e| e.value.depth()).max().unwrap_or(0),
        }
    }

    pub(super) fn into_document(self, index: u32, known: &mut KnownPaths) -> Document {
        let mut spans = SpansBuilder::default();
        let span = self.span;
        let value = self.into_value(&mut String::new(), &mut spans);
        let mut spans = spans.finish();
        known.share(&mut spans);
        Document { value, spans: Arc::new(spans), span, index }
    }

    /// The value; its path is left as it was.
    fn into_value(self, path: &mut String, spans: &mut SpansBuilder) -> Value {
        let own = path.len();
        match self.data {
            Data::Scalar(value) => value,
            Data::Seq(items) => {
                let values = items.into_iter().enumerate().map(|(i, node)| {
                    push_item(path, i);
                    spans.add(path, node.span);
                    let value = node.into_value(path, spans);
                    path.truncate(own);
                    value
                });
                Value::Array(values.collect())
            }
            Data::Map(entries) => {
                let mut map = Map::new();
                for entry in entries {
                    push_child(path, &entry.key);
                    spans.add(path, entry.span);
                    map.insert(entry.key, entry.value.into_value(path, spans));
                    path.truncate(own);
                }
                Value::Object(map)
            }
        }
    }
}

/// Reads the documents of one piece of text; empty ones are left out. The error's document index is not set.
pub(super) fn compose(text: &str, first_line: u32) -> Result<Vec<Node>, SyntaxError> {
    let mut composer =
        Composer { parser: Parser::new_from_str(text), first_line, anchors: HashMap::new(), aliased: 0, peeked: None };
    let mut nodes = Vec::new();
    loop {
        match composer.next()? {
            (Event::StreamEnd, _) => return Ok(nodes),
            (Event::DocumentStart(_), _) => {
                composer.anchors.clear();
                let (event, span) = composer.next()?;
                let node = composer.node(event, span, 0)?;
                if !matches!(node.data, Data::Scalar(Value::Null)) {
                    nodes.push(node);
                }
            }
            _ => {}
        }
    }
}

struct Composer<'t> {
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    first_line: u32,
    anchors: HashMap<usize, Node>,
    aliased: usize,
    peeked: Option<(Event<'t>, ParserSpan)>,
}

impl<'t> Composer<'t> {
    fn next(&mut self) -> Result<(Event<'t>, ParserSpan), SyntaxError> {
        if let Some(next) = self.peeked.take() {
            return Ok(next);
        }
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, ParserSpan::default())),
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                let span = self.place(error.marker());
                let info = error.info();
                let tab = info.contains("tab");
                let fix = tab.then(|| "indent with spaces; YAML does not allow tabs here".to_owned());
                Err(SyntaxError { message: format!("invalid YAML: {info}"), span, index: 0, fix })
            }
        }
    }

    fn place(&self, marker: &saphyr_parser::Marker) -> Span {
        let line = u32::try_from(marker.line()).unwrap_or(u32::MAX).max(1);
        let column = u32::try_from(marker.col()).unwrap_or(u32::MAX).saturating_add(1);
        Span { line: line.saturating_add(self.first_line - 1), column }
    }

    fn node(&mut self, event: Event<'t>, at: ParserSpan, depth: usize) -> Result<Node, SyntaxError> {
        let span = self.place(&at.start);
        if depth > MAX_DEPTH {
            return Err(error(span, format!("more than {MAX_DEPTH} levels of nesting")));
        }
        let (anchor, data) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, Data::Scalar(scalar_value(&text, style, tag.as_deref(), span)?))
            }
            Event::SequenceStart(anchor, tag) => {
                collection_tag(tag.as_deref(), "seq", span)?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, at) => items.push(self.node(event, at, depth + 1)?),
                    }
                }
                (anchor, Data::Seq(items))
            }
            Event::MappingStart(anchor, tag) => {
                collection_tag(tag.as_deref(), "map", span)?;
                (anchor, Data::Map(self.entries(depth)?))
            }
            Event::Alias(id) => return self.alias(id, span, depth),
            other => return Err(error(span, format!("invalid YAML: unexpected {other:?}"))),
        };
        let node = Node { span, data };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// What an alias stands for: a copy, paid from the budget.
    fn alias(&mut self, id: usize, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        let Some(node) = self.anchors.get(&id) else {
            return Err(error(span, "an alias inside the value that it refers to".to_owned()));
        };
        self.aliased += node.size();
        if self.aliased > MAX_ALIASED {
            return Err(error(span, format!("the aliases stand for more than {MAX_ALIASED} values")));
        }
        if depth + node.depth() > MAX_DEPTH {
            return Err(error(span, format!("more than {MAX_DEPTH} levels of nesting")));
        }
        Ok(node.clone())
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<Entry>, SyntaxError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = Seen::default();
        let mut merges = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.node(event, at, depth + 1)?;
            let (event, at) = self.next()?;
            let value = self.node(event, at, depth + 1)?;
            if is_merge {
                merges.push(value);
                continue;
            }
            let span = key.span;
            let key = key_text(key)?;
            if let Some(first) = seen.insert(&entries, &key, span) {
                let message =
                    format!("duplicate key \"{key}\": first on line {}, again on line {}", first.line, span.line);
                return Err(SyntaxError { message, span, index: 0, fix: Some("remove one of the two".to_owned()) });
            }
            entries.push(Entry { key, span, value });
        }
        for merge in merges {
            for entry in merged(merge)? {
                // Written keys beat merged ones, earlier merged ones beat later ones.
                if seen.insert(&entries, &entry.key, entry.span).is_none() {
                    entries.push(entry);
                }
            }
        }
        Ok(entries)
    }
}

/// Finds the entry of a key: among few by looking at them, among many by hash.
#[derive(Default)]
struct Seen(HashMap<String, Span>);

impl Seen {
    const FEW: usize = 16;

    /// Where the key was before, in these entries; notes that it is here, too.
    fn insert(&mut self, entries: &[Entry], key: &str, span: Span) -> Option<Span> {
        if entries.len() < Self::FEW {
            return entries.iter().find(|e| e.key == key).map(|e| e.span);
        }
        if self.0.is_empty() {
            self.0.extend(entries.iter().map(|e| (e.key.clone(), e.span)));
        }
        self.0.insert(key.to_owned(), span)
    }
}

/// The entries that a merge key brings in.
fn merged(node: Node) -> Result<Vec<Entry>, SyntaxError> {
    match node.data {
        Data::Map(entries) => Ok(entries),
        Data::Seq(items) => {
            let mut entries = Vec::new();
            for item in items {
                match item.data {
                    Data::Map(more) => entries.extend(more),
                    _ => return Err(error(item.span, "a merge key (<<) needs mappings".to_owned())),
                }
            }
            Ok(entries)
        }
        Data::Scalar(_) => Err(error(node.span, "a merge key (<<) needs a mapping, as <<: *anchor".to_owned())),
    }
}

fn key_text(node: Node) -> Result<String, SyntaxError> {
    match node.data {
        Data::Scalar(Value::String(text)) => Ok(text),
        Data::Scalar(value @ (Value::Bool(_) | Value::Number(_) | Value::Null)) => Ok(value.to_string()),
        _ => Err(error(node.span, "a list or mapping can't be a key; keys are text".to_owned())),
    }
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Result<Value, SyntaxError> {
    let Some(tag) = tag else {
        return Ok(if style == ScalarStyle::Plain { scalar::resolve(text) } else { Value::String(text.to_owned()) });
    };
    let plain = scalar::resolve(text);
    let (ok, kind) = match (tag.is_yaml_core_schema(), tag.suffix.as_str()) {
        (true, "str") => return Ok(Value::String(text.to_owned())),
        _ if format!("{}{}", tag.handle, tag.suffix) == "!" => return Ok(Value::String(text.to_owned())),
        (true, "null") => (plain.is_null(), "null"),
        (true, "bool") => (plain.is_boolean(), "a boolean"),
        (true, "int") => (plain.is_i64() || plain.is_u64(), "an integer"),
        (true, "float") => (plain.is_number(), "a number"),
        _ => return Err(unsupported(tag, span)),
    };
    if ok { Ok(plain) } else { Err(error(span, format!("\"{text}\" is tagged as {kind}, but is none"))) }
}

fn collection_tag(tag: Option<&Tag>, expected: &str, span: Span) -> Result<(), SyntaxError> {
    match tag {
        None => Ok(()),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == expected => Ok(()),
        Some(tag) => Err(unsupported(tag, span)),
    }
}

fn unsupported(tag: &Tag, span: Span) -> SyntaxError {
    error(span, format!("the tag {}{} has no meaning here; remove it", tag.handle, tag.suffix))
}

fn error(span: Span, message: String) -> SyntaxError {
    SyntaxError { message, span, index: 0, fix: None }
}
