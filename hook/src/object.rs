//! The compiled programs: an ELF object, committed beside its source in `bpf/`.
//!
//! `make bpf` writes it with clang; the CI compares. Only what clang makes of these sources is read here: sections of
//! instructions, the places in them that name a map, and nothing else.

/// The object.
static OBJECT: &[u8] = include_bytes!("../bpf/hook.bpf.o");

/// ELF's `SHT_SYMTAB` and `SHT_REL`, and BPF's one kind of relocation (`R_BPF_64_64`).
const SYMBOLS: u32 = 2;
const RELOCATIONS: u32 = 9;
const MAP_ADDRESS: u32 = 1;
/// Bytes of a section's header, a symbol and a relocation.
const SECTION: usize = 64;
const SYMBOL: usize = 24;
const RELOCATION: usize = 16;

/// A program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Code {
    /// Its instructions.
    pub(crate) instructions: Vec<u64>,
    /// Instructions that load a map's address, with the map's name.
    pub(crate) maps: Vec<(usize, String)>,
}

/// The program in the section of this name; `None` where the object has none, or is not what clang makes.
pub(crate) fn program(name: &str) -> Option<Code> {
    let elf = Elf::new(OBJECT)?;
    let (at, section) = elf.section(|_, s| elf.name(s) == Some(name))?;
    let instructions = elf.data(section)?.chunks_exact(8);
    let relocations = elf.section(|_, s| s.kind == RELOCATIONS && s.info == at);
    let maps = relocations.map_or(Some(Vec::new()), |(_, s)| elf.map_names(s));
    Some(Code {
        instructions: instructions.map(|i| read64(i, 0)).collect::<Option<_>>()?,
        maps: maps?,
    })
}

struct Elf {
    bytes: &'static [u8],
    sections: Vec<Section>,
    /// The section with the sections' and symbols' names.
    names: usize,
}

#[derive(Clone, Copy)]
struct Section {
    name: u32,
    kind: u32,
    offset: u64,
    size: u64,
    info: u32,
}

impl Elf {
    fn new(bytes: &'static [u8]) -> Option<Self> {
        let little_elf64 = bytes.starts_with(b"\x7fELF\x02\x01");
        let table = usize::try_from(read64(bytes, 0x28)?).ok()?;
        let (count, names) = (read16(bytes, 0x3c)?, read16(bytes, 0x3e)?);
        let section = |i: u16| {
            let at = table + usize::from(i) * SECTION;
            Some(Section {
                name: read32(bytes, at)?,
                kind: read32(bytes, at + 4)?,
                offset: read64(bytes, at + 24)?,
                size: read64(bytes, at + 32)?,
                info: read32(bytes, at + 44)?,
            })
        };
        let sections = (0..count).map(section).collect::<Option<_>>()?;
        little_elf64.then_some(Self {
            bytes,
            sections,
            names: usize::from(names),
        })
    }

    fn section(&self, is: impl Fn(u32, &Section) -> bool) -> Option<(u32, &Section)> {
        (0..).zip(&self.sections).find(|(i, s)| is(*i, s))
    }

    fn data(&self, section: &Section) -> Option<&'static [u8]> {
        let (from, len) = (
            usize::try_from(section.offset),
            usize::try_from(section.size),
        );
        self.bytes.get(from.ok()?..)?.get(..len.ok()?)
    }

    fn text(&self, at: u32) -> Option<&'static str> {
        let names = self.data(self.sections.get(self.names)?)?;
        let rest = names.get(usize::try_from(at).ok()?..)?;
        let end = rest.iter().position(|b| *b == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }

    fn name(&self, section: &Section) -> Option<&'static str> {
        self.text(section.name)
    }

    fn map_names(&self, relocations: &Section) -> Option<Vec<(usize, String)>> {
        let (_, symbols) = self.section(|_, s| s.kind == SYMBOLS)?;
        let symbols = self.data(symbols)?;
        let entries = self.data(relocations)?.chunks_exact(RELOCATION);
        let name = |entry: &[u8]| {
            let (offset, kind, symbol) = (read64(entry, 0)?, read32(entry, 8)?, read32(entry, 12)?);
            let symbol = symbols.get(usize::try_from(symbol).ok()? * SYMBOL..)?;
            let map = self.text(read32(symbol, 0)?)?;
            (kind == MAP_ADDRESS).then_some((usize::try_from(offset).ok()? / 8, map.to_owned()))
        };
        entries.map(name).collect()
    }
}

fn read16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn read32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn read64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_programs_are_in_the_object_and_name_maps() {
        for name in ["everything", "established", "guard", "egress", "remove"] {
            let code = program(name).unwrap();
            assert!(code.maps.iter().any(|(_, map)| map == "control"), "{name}");
            for (at, _) in &code.maps {
                // BPF_LD | BPF_DW | BPF_IMM, of two words.
                assert_eq!(code.instructions[*at] & 0xff, 0x18, "{name}");
            }
        }
        assert_eq!(program("nothing"), None);
    }
}
