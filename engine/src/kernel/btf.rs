//! Where a field lies in a structure of the running kernel, from its BTF.
//!
//! aya reads BTF but does not tell offsets. This walks the format of
//! Documentation/bpf/btf.rst: a header, types one after the other (their number
//! is their id, from 1), strings.

use std::{collections::HashMap, fs, io, path::Path};

/// The running kernel's type information.
pub(crate) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why a field's place is not known.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file can't be read.
    #[error("{path}: {source}: this needs a kernel with CONFIG_DEBUG_INFO_BTF")]
    Read {
        /// The file.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Not the format.
    #[error("not BTF: {0} at byte {1}")]
    Format(&'static str, usize),
    /// The kernel has no such field.
    #[error("no field {field} in struct {structure}")]
    NoField {
        /// The structure.
        structure: String,
        /// The field, maybe with fields of fields.
        field: String,
    },
}

const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_TYPEDEF: u32 = 8;
const KIND_CONST: u32 = 10;
const KIND_TYPE_TAG: u32 = 18;

/// Bytes of the fixed part of a type, and of a member.
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;

/// Parsed type information.
#[derive(Debug)]
pub(crate) struct Layout {
    data: Vec<u8>,
    strings: usize,
    /// Byte offset of each type, by id less one.
    types: Vec<usize>,
    /// Ids of the structures of a name.
    structures: HashMap<String, Vec<usize>>,
}

impl Layout {
    /// Reads the running kernel's.
    pub(crate) fn of_kernel() -> Result<Self, BtfError> {
        let read = |source| BtfError::Read {
            path: VMLINUX.to_owned(),
            source,
        };
        Self::parse(fs::read(Path::new(VMLINUX)).map_err(read)?)
    }

    /// Indexes raw BTF of this machine's byte order.
    pub(crate) fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        if data.get(..2) != Some(&0xeb9f_u16.to_ne_bytes()) {
            return Err(BtfError::Format("no magic number", 0));
        }
        let header = word(&data, 4)? as usize;
        let mut at = header + word(&data, 8)? as usize;
        let end = at + word(&data, 12)? as usize;
        let strings = header + word(&data, 16)? as usize;
        let mut layout = Self {
            data,
            strings,
            types: Vec::new(),
            structures: HashMap::new(),
        };
        while at < end {
            layout.types.push(at);
            let info = word(&layout.data, at + 4)?;
            if kind(info) == KIND_STRUCT {
                let name = layout.string(word(&layout.data, at)?)?.to_owned();
                layout
                    .structures
                    .entry(name)
                    .or_default()
                    .push(layout.types.len());
            }
            at += TYPE_BYTES + tail(info).ok_or(BtfError::Format("unknown kind of type", at))?;
        }
        Ok(layout)
    }

    /// Offset in bytes of `field` (`f_path.dentry`) in `structure`.
    pub(crate) fn offset(&self, structure: &str, field: &str) -> Result<i64, BtfError> {
        Ok(self.bit_offset(structure, field)? / 8)
    }

    fn bit_offset(&self, structure: &str, field: &str) -> Result<i64, BtfError> {
        let missing = || BtfError::NoField {
            structure: structure.to_owned(),
            field: field.to_owned(),
        };
        for &id in self.structures.get(structure).into_iter().flatten() {
            if let Some(bits) = self.bits(id, field)? {
                return i64::try_from(bits).map_err(|_huge| missing());
            }
        }
        Err(missing())
    }

    /// Of a field of one bit: the offset in bytes of the 32-bit word that it is in,
    /// and its value there.
    pub(crate) fn flag(&self, structure: &str, field: &str) -> Result<(i64, i64), BtfError> {
        const WORD: i64 = 32;
        let bit = self.bit_offset(structure, field)?;
        Ok((bit / WORD * (WORD / 8), 1 << (bit % WORD)))
    }

    /// Size in bytes of `structure`.
    pub(crate) fn size(&self, structure: &str) -> Result<i64, BtfError> {
        let ids = self.structures.get(structure).into_iter().flatten();
        let mut places = ids.filter_map(|id| self.types.get(id.checked_sub(1)?));
        match places.next() {
            Some(at) => Ok(i64::from(word(&self.data, at + 8)?)),
            None => Err(BtfError::NoField {
                structure: structure.to_owned(),
                field: String::new(),
            }),
        }
    }

    /// Offset in bits of a field of the structure or union `id`.
    fn bits(&self, id: usize, field: &str) -> Result<Option<u64>, BtfError> {
        let (name, rest) = match field.split_once('.') {
            Some((name, rest)) => (name, Some(rest)),
            None => (field, None),
        };
        let at = self.resolve(id)?;
        let info = word(&self.data, at + 4)?;
        if !matches!(kind(info), KIND_STRUCT | KIND_UNION) {
            return Ok(None);
        }
        for index in 0..(info & 0xffff) as usize {
            let member = at + TYPE_BYTES + index * MEMBER_BYTES;
            let member_name = self.string(word(&self.data, member)?)?;
            let member_type = word(&self.data, member + 4)? as usize;
            let mut bits = u64::from(word(&self.data, member + 8)?);
            // The kind flag: the high byte is the width of a bit field.
            if info >> 31 != 0 {
                bits &= 0x00ff_ffff;
            }
            let inner = if member_name.is_empty() {
                self.bits(member_type, field)?
            } else if member_name != name {
                None
            } else if let Some(rest) = rest {
                self.bits(member_type, rest)?
            } else {
                Some(0)
            };
            if let Some(inner) = inner {
                return Ok(Some(bits + inner));
            }
        }
        Ok(None)
    }

    /// Where the type `id` lies, behind typedefs and qualifiers.
    fn resolve(&self, mut id: usize) -> Result<usize, BtfError> {
        // Bounds a chain of qualifiers in broken input.
        for _ in 0..32 {
            let at = *id
                .checked_sub(1)
                .and_then(|index| self.types.get(index))
                .ok_or(BtfError::Format("unknown type id", id))?;
            match kind(word(&self.data, at + 4)?) {
                KIND_TYPEDEF..=KIND_CONST | KIND_TYPE_TAG => {
                    id = word(&self.data, at + 8)? as usize;
                }
                _ => return Ok(at),
            }
        }
        Err(BtfError::Format("endless chain of types", id))
    }

    fn string(&self, offset: u32) -> Result<&str, BtfError> {
        let at = self.strings + offset as usize;
        let bytes = self
            .data
            .get(at..)
            .ok_or(BtfError::Format("string out of bounds", at))?;
        let end = bytes.iter().position(|&byte| byte == 0);
        end.and_then(|end| std::str::from_utf8(&bytes[..end]).ok())
            .ok_or(BtfError::Format("broken string", at))
    }
}

fn kind(info: u32) -> u32 {
    (info >> 24) & 0x1f
}

/// Bytes behind the fixed part of a type; `None` for a kind that is not known.
fn tail(info: u32) -> Option<usize> {
    let members = (info & 0xffff) as usize;
    Some(match kind(info) {
        // int, variable, declaration tag
        1 | 14 | 17 => 4,
        // pointer, forward, typedef, volatile, const, restrict, function, float, type tag
        2 | 7..=12 | 16 | 18 => 0,
        // array
        3 => 12,
        // structure, union, section, 64-bit enumeration
        4 | 5 | 15 | 19 => members * 12,
        // enumeration, function prototype
        6 | 13 => members * 8,
        _ => return None,
    })
}

fn word(data: &[u8], at: usize) -> Result<u32, BtfError> {
    let end = at
        .checked_add(4)
        .ok_or(BtfError::Format("offset out of bounds", at))?;
    let bytes = data.get(at..end).ok_or(BtfError::Format("cut short", at))?;
    let mut word = [0; 4];
    word.copy_from_slice(bytes);
    Ok(u32::from_ne_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// struct { int a; union { int b; struct { int c; int d; }; }; const struct inner e; }
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0c\0d\0e\0inner\0f\0g\0";
        let name = |text: &str| {
            let bytes = [b"\0", text.as_bytes(), b"\0"].concat();
            let at = strings.windows(bytes.len()).position(|part| part == bytes);
            u32::try_from(at.unwrap() + 1).unwrap()
        };
        let mut types: Vec<u32> = Vec::new();
        types.extend([name("int"), 1 << 24, 4, 32]); // 1
        types.extend([
            0,
            KIND_STRUCT << 24 | 2,
            8,
            name("c"),
            1,
            0,
            name("d"),
            1,
            32,
        ]); // 2
        types.extend([0, KIND_UNION << 24 | 2, 8, name("b"), 1, 0, 0, 2, 0]); // 3
        types.extend([
            name("inner"),
            KIND_STRUCT << 24 | 2,
            8,
            name("f"),
            1,
            0,
            name("g"),
            1,
            32,
        ]); // 4
        types.extend([0, KIND_CONST << 24, 4]); // 5
        types.extend([name("outer"), KIND_STRUCT << 24 | 3, 20]); // 6
        types.extend([name("a"), 1, 0, 0, 3, 32, name("e"), 5, 96]);
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut data = 0xeb9f_u16.to_ne_bytes().to_vec();
        data.extend([1, 0]);
        let lengths = [24, 0, types.len(), types.len(), strings.len()];
        data.extend(
            lengths
                .iter()
                .flat_map(|&word| u32::try_from(word).unwrap().to_ne_bytes()),
        );
        data.extend(types);
        data.extend(strings);
        data
    }

    #[test]
    fn fields_of_fields_and_of_unnamed_parts_are_found() {
        let layout = Layout::parse(sample()).unwrap();
        for (field, offset) in [
            ("a", 0),
            ("b", 4),
            ("c", 4),
            ("d", 8),
            ("e", 12),
            ("e.g", 16),
        ] {
            assert_eq!(layout.offset("outer", field).unwrap(), offset, "{field}");
        }
        assert_eq!(layout.size("outer").unwrap(), 20);
        assert!(layout.size("none").is_err());
        assert!(matches!(
            layout.offset("outer", "f"),
            Err(BtfError::NoField { .. })
        ));
        assert!(matches!(
            layout.offset("none", "a"),
            Err(BtfError::NoField { .. })
        ));
    }

    #[test]
    fn input_that_is_cut_short_is_an_error_and_never_a_panic() {
        let whole = sample();
        for len in 0..whole.len() {
            if let Ok(layout) = Layout::parse(whole[..len].to_vec()) {
                // Found or not: what is asserted is that it returns.
                drop(layout.offset("outer", "e.g"));
            }
        }
        assert!(Layout::parse(b"ELF".to_vec()).is_err());
    }

    #[test]
    fn the_running_kernel_has_the_fields_that_the_programs_read() {
        if !Path::new(VMLINUX).exists() {
            return;
        }
        let layout = Layout::of_kernel().unwrap();
        for (_, structure, field) in super::super::load::OFFSETS {
            layout.offset(structure, field).unwrap();
        }
        for (_, structure) in super::super::load::SIZES {
            assert!(layout.size(structure).unwrap() > 0);
        }
    }
}
