//! One boot of one virtual machine: starts QEMU, hands out its console line by
//! line, and ends a guest that has fallen silent or takes too long.

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::image;
use crate::host;

const QEMU: &str = "qemu-system-x86_64";
pub(crate) const NEEDED: &[host::Needed] = &[(QEMU, "qemu-system-x86"), ("setpriv", "util-linux")];

/// What to boot.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initrd: &'a Path,
    pub(crate) command_line: String,
    pub(crate) root: &'a Path,
    pub(crate) payload: &'a Path,
    pub(crate) modules: Option<&'a Path>,
    /// The userland of the release before, to take programs from.
    pub(crate) older: Option<&'a Path>,
    /// A folder for what the guest writes to its root.
    pub(crate) scratch: &'a Path,
    /// Its clock counts instructions, one a nanosecond.
    pub(crate) counting: bool,
}

/// When a guest is given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Without a line on the console.
    pub(crate) silent: Duration,
    /// Altogether.
    pub(crate) total: Duration,
}

/// How a boot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    PoweredOff,
    Silent(Duration),
    Overtime(Duration),
}

impl Ending {
    pub(crate) fn describe(self) -> String {
        match self {
            Self::PoweredOff => "the guest powered off".into(),
            Self::Silent(time) => format!("ended after {} s of silence", time.as_secs()),
            Self::Overtime(time) => format!("ended after {} s, its limit", time.as_secs()),
        }
    }
}

/// Boots the machine and waits for its end. Every console line goes to the log
/// and to `each_line`.
pub(crate) fn boot(
    machine: &Machine<'_>,
    limits: Limits,
    log: &Path,
    each_line: &mut dyn FnMut(&str),
) -> Result<Ending> {
    let mut log_file = File::create(log).with_context(|| log.display().to_string())?;
    let mut qemu = Killed(command(machine).spawn().context(QEMU)?);
    let lines = console(&mut qemu.0)?;
    let begin = Instant::now();
    loop {
        let left = limits.total.saturating_sub(begin.elapsed());
        match lines.recv_timeout(limits.silent.min(left)) {
            Ok(line) => {
                writeln!(log_file, "{:8.3} {line}", begin.elapsed().as_secs_f64())?;
                each_line(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if left <= limits.silent => {
                return Ok(Ending::Overtime(limits.total));
            }
            Err(RecvTimeoutError::Timeout) => return Ok(Ending::Silent(limits.silent)),
        }
    }
    let status = qemu.0.wait()?;
    if !status.success() {
        bail!("{QEMU}: {status}; see {}", log.display());
    }
    Ok(Ending::PoweredOff)
}

/// No virtual machine outlives its owner.
#[derive(Debug)]
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail for one that has ended already, which is as well.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn command(machine: &Machine<'_>) -> Command {
    // The kernel ends QEMU even when we are killed ourselves.
    let mut command = host::program("setpriv");
    command.args(["--pdeathsig", "KILL", QEMU]);
    if machine.counting {
        command.args(["-accel", "tcg", "-cpu", EMULATED, "-smp", "1"]);
        command.args(["-icount", "shift=0,sleep=off"]);
    } else {
        command.args(accelerator()).args(["-smp", "2"]);
    }
    command.args(["-m", "3G", "-nodefaults", "-no-reboot"]);
    command.args(["-display", "none", "-serial", "stdio"]);
    command.arg("-kernel").arg(machine.kernel);
    command.arg("-initrd").arg(machine.initrd);
    command.arg("-append").arg(&machine.command_line);
    disk(&mut command, image::ROOT, machine.root, "snapshot=on");
    disk(&mut command, image::PAYLOAD, machine.payload, "readonly=on");
    if let Some(older) = machine.older {
        disk(&mut command, image::OLDER, older, "readonly=on");
    }
    if let Some(modules) = machine.modules {
        disk(&mut command, image::MODULES, modules, "readonly=on");
    }
    command
        .env("TMPDIR", machine.scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn disk(command: &mut Command, serial: &str, image: &Path, option: &str) {
    // QEMU reads a doubled comma as a comma.
    let file = image.display().to_string().replace(',', ",,");
    command
        .arg("-drive")
        .arg(format!(
            "if=none,id={serial},format=raw,file={file},{option}"
        ))
        .arg("-device")
        .arg(format!("virtio-blk-pci,drive={serial},serial={serial}"));
}

/// The guest's console and QEMU's own complaints, by the line.
fn console(qemu: &mut Child) -> Result<Receiver<String>> {
    let (sender, lines) = channel();
    let stdout = qemu.stdout.take().context("no standard output")?;
    let stderr = qemu.stderr.take().context("no standard error")?;
    let to_lines = sender.clone();
    thread::spawn(move || each_line(stdout, |line| to_lines.send(line).is_ok()));
    thread::spawn(move || each_line(stderr, |line| sender.send(format!("qemu: {line}")).is_ok()));
    Ok(lines)
}

fn each_line(from: impl std::io::Read, mut take: impl FnMut(String) -> bool) {
    let mut reader = BufReader::new(from);
    let mut bytes = Vec::new();
    while reader
        .read_until(b'\n', &mut bytes)
        .is_ok_and(|count| count > 0)
    {
        if !take(printable(&String::from_utf8_lossy(&bytes))) {
            return;
        }
        bytes.clear();
    }
}

/// The line without what moves a terminal's cursor about.
fn printable(line: &str) -> String {
    let mut text = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\x1b' {
            // `ESC [ parameters LETTER`, which firmware and shells write.
            if characters.next() == Some('[') {
                characters.by_ref().find(char::is_ascii_alphabetic);
            }
        } else if character == '\t' || !character.is_control() {
            text.push(character);
        }
    }
    text
}

/// An old processor: what a newer one has (wide registers to save at each switch of tasks,
/// checks at each access to user memory) is emulated too, which made cases with containers
/// 30 % slower; Debian asks for none of it. Without cmpxchg16b: QEMU 7.2 emulates it so that,
/// rarely, the guest's flags register is overwritten and the guest dies of a double fault.
/// With rdrand, which seeds the guest's random numbers.
const EMULATED: &str = "Nehalem,-cx16,+rdrand";

/// Whether guests' processors are emulated, a thread for each.
pub(crate) fn emulates() -> bool {
    accelerator() == TCG
}

const KVM: &[&str] = &["-accel", "kvm", "-cpu", "host"];
const TCG: &[&str] = &["-accel", "tcg,thread=multi", "-cpu", EMULATED];

/// KVM where it works and the processor virtualizes, for a device node alone does not say so;
/// emulation else. Where KVM makes up for the processor (kvm-pvm, in machines that are virtual
/// themselves) an empty machine starts, and no stock kernel gets through its own decompression.
/// `EXECBLOCK_VM_ACCEL` decides instead.
fn accelerator() -> &'static [&'static str] {
    static CHOSEN: OnceLock<&[&str]> = OnceLock::new();
    CHOSEN.get_or_init(|| match env::var("EXECBLOCK_VM_ACCEL").as_deref() {
        Ok("kvm") => KVM,
        Ok("tcg") => TCG,
        _ if virtualizes(&processors()) && kvm_works(KVM) => KVM,
        _ => TCG,
    })
}

/// Whether a processor does, by `vmx` or `svm` among its flags in /proc/cpuinfo.
fn virtualizes(processors: &str) -> bool {
    processors
        .split_whitespace()
        .any(|word| matches!(word, "vmx" | "svm"))
}

/// Empty where it can't be read: then all is emulated.
fn processors() -> String {
    fs::read_to_string("/proc/cpuinfo").unwrap_or_default()
}

/// Starts an empty machine and quits it at once.
fn kvm_works(arguments: &[&str]) -> bool {
    let openable = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    let try_it = || -> Result<bool> {
        let mut qemu = host::program(QEMU)
            .args(arguments)
            .args(["-nodefaults", "-display", "none", "-S", "-monitor", "stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut monitor) = qemu.stdin.take() {
            // A machine that died has closed it; its exit status tells.
            drop(monitor.write_all(b"quit\n"));
        }
        Ok(qemu.wait()?.success())
    };
    openable && try_it().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_virtualizes_by_its_flags() {
        assert!(virtualizes("model name\t: x\nflags\t\t: fpu vmx sse\n"));
        assert!(virtualizes("flags\t\t: svm"));
        assert!(!virtualizes(
            "model name\t: vmxnet\nflags\t\t: fpu hypervisor\n"
        ));
    }

    #[test]
    fn cursor_movements_are_dropped() {
        assert_eq!(printable("\x1b[2J\x1b[1;1HSeaBIOS\r\n"), "SeaBIOS");
        assert_eq!(printable("a\tb\x07\n"), "a\tb");
    }
}
