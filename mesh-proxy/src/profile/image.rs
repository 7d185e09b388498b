//! The program and its libraries in memory: what is mapped where, and what is called what.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::encode::{Mapping, Name};

/// The path under which the program can be opened, also where its own is not there (any more).
const SELF: &str = "/proc/self/exe";

/// What is executed in this process.
pub(super) fn mappings() -> Vec<Mapping> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let own = std::fs::read_link(SELF).unwrap_or_default();
    let mut all: Vec<Mapping> = maps.lines().filter_map(mapping).collect();
    for m in &mut all {
        m.own = Path::new(&m.file) == own;
        let file = if m.own { File::open(SELF) } else { File::open(&m.file) };
        m.build_id = file.and_then(|file| build_id(&file)).unwrap_or_default();
    }
    all
}

/// A line of `/proc/self/maps`: `START-END PERMISSIONS OFFSET DEVICE INODE PATH`.
fn mapping(line: &str) -> Option<Mapping> {
    let mut words = line.splitn(6, ' ');
    let (range, permissions, offset) = (words.next()?, words.next()?, words.next()?);
    let file = words.nth(2)?.trim();
    let (start, end) = range.split_once('-')?;
    if !permissions.contains('x') || file.is_empty() {
        return None;
    }
    let hex = |text: &str| usize::from_str_radix(text, 16).ok();
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset: u64::from_str_radix(offset, 16).ok()?,
        file: file.to_owned(),
        build_id: String::new(),
        own: false,
    })
}

/// The build id of a 64-bit ELF file, in hexadecimal.
fn build_id(file: &File) -> io::Result<String> {
    const NOTES: u32 = 4;
    let mut head = [0; 64];
    file.read_exact_at(&mut head, 0)?;
    let nothing = || io::Error::new(io::ErrorKind::InvalidData, "no build id");
    if head[..5] != *b"\x7fELF\x02" {
        return Err(nothing());
    }
    let (table, size, count) = (u64_at(&head, 0x20), u16_at(&head, 0x36), u16_at(&head, 0x38));
    for i in 0..count {
        let mut segment = [0; 56];
        file.read_exact_at(&mut segment, table + u64::from(i) * u64::from(size))?;
        if u32_at(&segment, 0) != NOTES {
            continue;
        }
        let mut notes = vec![0; usize::try_from(u64_at(&segment, 0x20).min(1 << 16)).map_err(io::Error::other)?];
        file.read_exact_at(&mut notes, u64_at(&segment, 8))?;
        if let Some(id) = id_among(&notes) {
            return Ok(id.iter().map(|byte| format!("{byte:02x}")).collect());
        }
    }
    Err(nothing())
}

/// The content of the note that is the build id.
fn id_among(mut notes: &[u8]) -> Option<&[u8]> {
    const BUILD_ID: u32 = 3;
    let padded = |n: u32| usize::try_from(n).ok()?.checked_next_multiple_of(4);
    while notes.len() >= 12 {
        let (name, content, kind) = (u32_at(notes, 0), u32_at(notes, 4), u32_at(notes, 8));
        let from = 12 + padded(name)?;
        if kind == BUILD_ID && notes.get(12..16) == Some(b"GNU\0") {
            return notes.get(from..from + usize::try_from(content).ok()?);
        }
        notes = notes.get(from + padded(content)?..)?;
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(array(bytes, at))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// What the symbol tables, and debug information if there is some, say about an address; the innermost function first.
pub(super) fn names(address: usize) -> Vec<Name> {
    let mut names = Vec::new();
    // It looks one before what it is told, because that is where calls return to.
    backtrace::resolve(std::ptr::without_provenance_mut(address + 1), |symbol| {
        let Some(name) = symbol.name() else { return };
        names.push(Name {
            name: format!("{name:#}"),
            symbol: name.as_str().unwrap_or_default().to_owned(),
            file: symbol.filename().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default(),
            line: symbol.lineno().unwrap_or(0),
        });
    });
    names
}

/// Gives the memory back that the symbol tables take.
pub(super) fn forget_names() {
    backtrace::clear_symbol_cache();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        let line = "7f10-7f20 r-xp 00001000 fd:01 1234                    /usr/lib/a b.so (deleted)";
        let read = mapping(line).unwrap();
        assert_eq!((read.start, read.end, read.offset), (0x7f10, 0x7f20, 0x1000));
        assert_eq!(read.file, "/usr/lib/a b.so (deleted)");
        for other in ["7f10-7f20 rw-p 0 0:0 0 /usr/lib/a", "7f10-7f20 r-xp 0 0:0 0 ", "7f10 r-xp", ""] {
            assert_eq!(mapping(other), None, "{other}");
        }
    }

    #[test]
    fn a_build_id_among_notes() {
        let note = |kind: u32, name: &[u8], content: &[u8]| {
            let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_ne_bytes();
            let mut note = [size(name), size(content), kind.to_ne_bytes()].concat();
            for part in [name, content] {
                note.extend_from_slice(part);
                note.resize(note.len().next_multiple_of(4), 0);
            }
            note
        };
        let both = [note(1, b"GNU\0", &[9; 16]), note(3, b"Go\0", &[8]), note(3, b"GNU\0", &[1, 2, 3])].concat();
        assert_eq!(id_among(&both), Some(&[1, 2, 3][..]));
        assert_eq!(id_among(&note(3, b"Go\0", &[8; 4])), None);
        assert_eq!(id_among(&both[..both.len() - 4]), None);
        assert_eq!(id_among(&[255; 40]), None);
    }

    #[test]
    fn this_program() {
        let all = mappings();
        let here = this_program as fn() as usize;
        let own = all.iter().find(|m| (m.start..m.end).contains(&here)).unwrap();
        assert!(own.own, "{own:?}");
        let names = names(here);
        assert!(names.iter().any(|n| n.name.ends_with("this_program") && !n.symbol.is_empty()), "{names:?}");
        assert!(super::names(1).is_empty());
        forget_names();
    }
}
