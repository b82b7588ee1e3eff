//! Orders for a running cgroup: `deny`, `allow`, `clear`, and what `status` says after.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::{Running, execblock, run, text};

pub(crate) fn running_cgroup_gets_rules() -> Result<(), Failed> {
    let running = Running::new("orders")?;
    ensure!(running.runs("whoami")?, "whoami without a rule");
    running.order("deny", &["whoami", "/usr/bin/uname"])?;
    ensure!(
        !running.runs("whoami")? && !running.runs("uname")?,
        "denied"
    );
    ensure!(running.runs("id")?, "another");
    // One is lifted, the other holds.
    running.order("allow", &["whoami"])?;
    ensure!(
        running.runs("whoami")? && !running.runs("uname")?,
        "allowed"
    );
    let mut wrong = execblock();
    let wrong = wrong.args(["allow", &running.query(), "uname"]).output()?;
    let err = text(&wrong.stderr);
    ensure!(
        wrong.status.code() == Some(1) && err.contains("/usr/bin/uname"),
        "a rule under another name: {err}"
    );
    ensure!(!running.runs("uname")?, "after what was refused");
    let status = running.order("status", &[])?;
    ensure!(
        status.contains("deny /usr/bin/uname, command line, 3 hits"),
        "{status}"
    );
    let said = running.order("clear", &[])?;
    ensure!(said.contains("no rule holds"), "{said}");
    ensure!(running.runs("uname")?, "cleared");
    Ok(())
}

pub(crate) fn rule_ends_by_itself() -> Result<(), Failed> {
    let running = Running::new("deadline")?;
    let began = Instant::now();
    running.order("deny", &["whoami", "--for", "2s"])?;
    ensure!(!running.runs("whoami")?, "denied");
    // Nothing of execblock runs; the kernel side looks at the time.
    while !running.runs("whoami")? {
        ensure!(began.elapsed() < Duration::from_mins(1), "still denied");
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(
        began.elapsed() >= Duration::from_secs(2),
        "ended after {:?}",
        began.elapsed()
    );
    // And the other way round: lifted for a time.
    running.order("deny", &["whoami"])?;
    running.order("allow", &["whoami", "--for", "2s"])?;
    ensure!(running.runs("whoami")?, "lifted");
    let began = Instant::now();
    while running.runs("whoami")? {
        ensure!(began.elapsed() < Duration::from_mins(1), "still lifted");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut zero = execblock();
    let zero = zero
        .args(["deny", &running.query(), "id", "--for", "0s"])
        .output()?;
    ensure!(zero.status.code() == Some(2), "{:?}", zero.status);
    ensure!(running.runs("id")?, "nothing half-applied");
    Ok(())
}

/// While other rules come and go, what is denied throughout never runs.
pub(crate) fn change_leaves_no_gap() -> Result<(), Failed> {
    let running = Running::new("gap")?;
    running.order("deny", &["whoami"])?;
    let done = AtomicBool::new(false);
    let attempts = std::thread::scope(|scope| {
        let attacker = scope.spawn(|| {
            let mut attempts = 0_u32;
            while !done.load(Ordering::Relaxed) {
                if running
                    .runs("whoami")
                    .map_err(|error| format!("{error:?}"))?
                {
                    return Err(format!("whoami ran at attempt {attempts}"));
                }
                attempts += 1;
            }
            Ok(attempts)
        });
        let changed = (0..15).try_for_each(|_| {
            running.order("deny", &["id", "/bin/ls"])?;
            running.order("allow", &["id", "/bin/ls"]).map(drop)
        });
        done.store(true, Ordering::Relaxed);
        let attempts = attacker
            .join()
            .map_err(|_panic| "the attacker panicked")??;
        changed.map(|()| attempts)
    })?;
    ensure!(attempts > 20, "only {attempts} attempts");
    Ok(())
}

pub(crate) fn command_is_in_the_status() -> Result<(), Failed> {
    let program = env!("CARGO_BIN_EXE_execblock");
    let script = format!("whoami; {program} status --json");
    let output = run("whoami", &["sh", "-c", &script]);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let command = &status[0];
    ensure!(
        command["engine"] == "execblock run" && command["name"] == "sh",
        "{command}"
    );
    let rule = &command["rules"][0];
    ensure!(
        rule["rule"] == "whoami" && rule["origin"] == "command-line" && rule["hits"] == 1,
        "{rule}"
    );
    Ok(())
}
