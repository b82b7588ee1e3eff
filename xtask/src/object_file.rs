//! The compiled eBPF object as a file: what of it is committed, and what must
//! not be in it.

use anyhow::{Context, Result, bail};
use object::{
    build::elf::{Builder, SectionData},
    elf,
};

/// The object without DWARF. What the kernel and the loader read (programs,
/// maps, BTF with its line numbers) stays; what only a debugger would read goes,
/// which is nine tenths of the file.
pub(crate) fn without_debug_sections(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("the object is no ELF file")?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        section.delete = name.starts_with(".debug_") || name.starts_with(".rel.debug_");
    }
    // Symbols of deleted sections, and relocations by deleted symbols.
    builder.delete_orphans();
    // LLVM keeps both kinds of names in one section, which the builder can't.
    let has_names = |data: &SectionData<'_>| matches!(data, SectionData::SectionString);
    if !builder
        .sections
        .iter()
        .any(|section| has_names(&section.data))
    {
        let section = builder.sections.add();
        section.name = ".shstrtab".into();
        section.sh_type = elf::SHT_STRTAB;
        section.data = SectionData::SectionString;
    }
    builder.set_section_sizes();
    let mut written = Vec::new();
    builder
        .write(&mut written)
        .context("the object can't be written")?;
    Ok(written)
}

/// Fails when a panic is left in a program: the verifier refuses some of them,
/// and none could say anything.
pub(crate) fn check_no_panic(object: &[u8]) -> Result<()> {
    let builder = Builder::read(object).context("the object is no ELF file")?;
    // `core::panicking` in either mangling.
    let panics = builder
        .symbols
        .iter()
        .map(|symbol| symbol.name.to_string())
        .filter(|name| name.contains("9panicking") || name.contains("rust_begin_unwind"))
        .collect::<Vec<_>>();
    if !panics.is_empty() {
        bail!(
            "the object can panic; it has the symbols {}",
            panics.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A little eBPF object with a program, its debug information and a symbol each.
    fn object(function: &'static str) -> Result<Vec<u8>> {
        let mut builder = Builder::new(object::Endianness::Little, true);
        builder.header.e_type = elf::ET_REL;
        builder.header.e_machine = elf::EM_BPF;
        let mut sections = Vec::new();
        for name in [".text", ".debug_info", ".BTF"] {
            let section = builder.sections.add();
            section.name = name.into();
            section.sh_type = elf::SHT_PROGBITS;
            section.data = SectionData::Data(b"content!".as_slice().into());
            sections.push(section.id());
        }
        let section = builder.sections.add();
        section.name = ".shstrtab".into();
        section.sh_type = elf::SHT_STRTAB;
        section.data = SectionData::SectionString;
        let section = builder.sections.add();
        section.name = ".symtab".into();
        section.sh_type = elf::SHT_SYMTAB;
        section.data = SectionData::Symbol;
        let section = builder.sections.add();
        section.name = ".strtab".into();
        section.sh_type = elf::SHT_STRTAB;
        section.data = SectionData::String;
        for (name, section) in [(function, sections[0]), ("information", sections[1])] {
            let symbol = builder.symbols.add();
            symbol.name = name.into();
            symbol.section = Some(section);
        }
        builder.set_section_sizes();
        let mut written = Vec::new();
        builder.write(&mut written)?;
        Ok(written)
    }

    #[test]
    fn debug_sections_go_with_their_symbols() -> Result<()> {
        let stripped = without_debug_sections(&object("check")?)?;
        let builder = Builder::read(&*stripped)?;
        let sections = builder
            .sections
            .iter()
            .map(|s| s.name.to_string())
            .collect::<Vec<_>>();
        assert!(sections.contains(&".text".into()) && sections.contains(&".BTF".into()));
        assert!(!sections.contains(&".debug_info".into()));
        let symbols = builder
            .symbols
            .iter()
            .map(|s| s.name.to_string())
            .collect::<Vec<_>>();
        assert_eq!(symbols, ["check"]);
        Ok(())
    }

    #[test]
    fn a_panic_is_found() -> Result<()> {
        assert!(check_no_panic(&object("lsm_exec")?).is_ok());
        for name in [
            "_ZN4core9panicking9panic_fmt17h0123E",
            "_RNvNtCs1_4core9panicking5panic",
        ] {
            assert!(check_no_panic(&object(name)?).is_err(), "{name}");
        }
        Ok(())
    }
}
