//! The first line of a script, read as the kernel reads it
//! (`load_script` in fs/binfmt_script.c, Linux 5.4 and later). Pure.

/// What the kernel reads of a file to tell what it is (`BINPRM_BUF_SIZE` of
/// include/uapi/linux/binfmts.h, Linux 5.1).
pub(super) const HEAD: usize = 256;

/// What stands behind `#!`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The interpreter.
    pub(super) interpreter: &'a [u8],
    /// All that is behind it: one argument, with the spaces inside.
    pub(super) argument: Option<&'a [u8]>,
}

/// A line that the kernel does not take: ENOEXEC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoInterpreter;

/// Reads the beginning of a file, at most [`HEAD`] bytes; `None` where it is no
/// script.
pub(super) fn line(head: &[u8]) -> Result<Option<Line<'_>>, NoInterpreter> {
    let Some(text) = head.strip_prefix(b"#!") else {
        return Ok(None);
    };
    let end = text.iter().position(|&byte| byte == b'\n' || byte == 0);
    let whole = end.is_some() || head.len() < HEAD;
    let text = match end {
        Some(end) => &text[..end],
        // The last byte of a full buffer is never looked at.
        None => &text[..text.len().min(HEAD - 1 - 2)],
    };
    let text = trim(text);
    let (interpreter, rest) = match text.iter().position(|&byte| is_blank(byte)) {
        Some(at) => text.split_at(at),
        // The name may go on behind what was read: the kernel runs no part of it.
        None if !whole => return Err(NoInterpreter),
        None => (text, &[][..]),
    };
    if interpreter.is_empty() {
        return Err(NoInterpreter);
    }
    let argument = Some(trim(rest)).filter(|rest| !rest.is_empty());
    Ok(Some(Line {
        interpreter,
        argument,
    }))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &[u8]) -> Result<Option<(&str, Option<&str>)>, NoInterpreter> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        line(head).map(|line| line.map(|line| (text(line.interpreter), line.argument.map(text))))
    }

    #[test]
    fn an_interpreter_has_at_most_one_argument() {
        for (head, expected) in [
            ("#!/bin/sh\necho", ("/bin/sh", None)),
            ("#! \t/bin/sh \t\n", ("/bin/sh", None)),
            ("#!/bin/sh", ("/bin/sh", None)),
            ("#!/bin/env  -S a  b \nx", ("/bin/env", Some("-S a  b"))),
            ("#!sh\0 -x\n", ("sh", None)),
        ] {
            assert_eq!(read(head.as_bytes()), Ok(Some(expected)), "{head:?}");
        }
    }

    #[test]
    fn what_is_no_script_is_told_from_one_without_an_interpreter() {
        for head in ["", "#", "\n#!/bin/sh", "\x7fELF"] {
            assert_eq!(read(head.as_bytes()), Ok(None), "{head:?}");
        }
        for head in ["#!", "#!\n/bin/sh", "#! \t \n", "#!\0/bin/sh\n"] {
            assert_eq!(read(head.as_bytes()), Err(NoInterpreter), "{head:?}");
        }
    }

    #[test]
    fn a_name_that_may_be_cut_is_not_run_and_an_argument_is() {
        let full = |text: &str| {
            let mut head = text.as_bytes().to_vec();
            head.resize(HEAD, b'a');
            head
        };
        assert_eq!(read(&full("#!/bin/")), Err(NoInterpreter));
        let head = full("#!/bin/sh ");
        let (interpreter, argument) = read(&head).unwrap().unwrap();
        assert_eq!(interpreter, "/bin/sh");
        assert_eq!(argument.unwrap().len(), HEAD - 1 - "#!/bin/sh ".len());
    }
}
