//! A plugin that was started by the runtime. This test starts itself as one.

use std::{
    env, future,
    io::{self, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    process::Command,
    sync::Arc,
};

use nri::{Error, Events, Options, Plugin};

struct Nothing;

impl Plugin for Nothing {
    fn events(&self) -> Events {
        Events::START_CONTAINER
    }
}

/// Does nothing unless `a_plugin_that_was_started_by_the_runtime` runs it.
#[test]
fn plugin() {
    let Some(fd) = env::var_os("NRI_PLUGIN_SOCKET") else {
        assert!(Options::pre_installed().unwrap().is_none());
        return;
    };
    let fd = fd.to_str().unwrap().parse().unwrap();
    let options = Options::pre_installed().unwrap().unwrap();
    // SAFETY: reads a flag.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    assert_eq!(flags, libc::FD_CLOEXEC);
    // The descriptor has an owner now.
    let error = Options::pre_installed().unwrap_err();
    assert!(
        matches!(
            error,
            Error::Inherited {
                call: "taken before",
                ..
            }
        ),
        "{error:?}"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(nri::run(Arc::new(Nothing), options, future::pending()))
        .unwrap();
}

fn frame(socket: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut header = [0; 8];
    socket.read_exact(&mut header)?;
    let mut payload = vec![0; usize::from(header[7])];
    socket.read_exact(&mut payload)?;
    Ok(payload)
}

#[test]
fn a_plugin_that_was_started_by_the_runtime() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    // SAFETY: makes a copy of an open descriptor, without close-on-exec.
    let inherited = unsafe { libc::fcntl(theirs.as_raw_fd(), libc::F_DUPFD, 10) };
    assert!(inherited >= 10, "{}", io::Error::last_os_error());
    let mut plugin = Command::new(env::current_exe().unwrap())
        .args(["--exact", "plugin"])
        .env("NRI_PLUGIN_NAME", "nothing")
        .env("NRI_PLUGIN_IDX", "07")
        .env("NRI_PLUGIN_SOCKET", inherited.to_string())
        .spawn()
        .unwrap();
    drop(theirs);
    // SAFETY: the copy is nobody else's.
    assert_eq!(unsafe { libc::close(inherited) }, 0);

    let registration = frame(&mut ours).unwrap();
    assert!(
        registration.ends_with(b"\x0a\x07nothing\x12\x0207"),
        "{registration:x?}"
    );
    ours.write_all(b"\0\0\0\x02\0\0\0\x0a\0\0\0\0\0\0\0\x01\x02\0")
        .unwrap();
    let call = b"\x0a\x1bnri.pkg.api.v1alpha1.Plugin\x12\x09Configure";
    ours.write_all(b"\0\0\0\x01\0\0\0\x32\0\0\0\x28\0\0\0\x01\x01\0")
        .unwrap();
    ours.write_all(call).unwrap();
    let configured = frame(&mut ours).unwrap();
    assert!(configured.ends_with(b"\x12\x02\x10\x20"), "{configured:x?}");
    // The runtime stops.
    drop(ours);
    assert!(plugin.wait().unwrap().success());
}
