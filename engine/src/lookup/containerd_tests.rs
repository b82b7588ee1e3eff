//! Tests of what containerd says of its tasks.

#[test]
fn an_ended_task_has_no_process() {
    let task = |id: &str, status: super::Status| containerd_client::types::v1::Process {
        id: id.to_owned(),
        // This process stands for one that got the number later.
        pid: std::process::id(),
        status: status.into(),
        ..Default::default()
    };
    let tasks = vec![
        task("ended", super::Status::Stopped),
        task("runs", super::Status::Running),
        task("waits", super::Status::Created),
        task("paused", super::Status::Paused),
    ];
    let pids = super::pids(tasks);
    let mut ids: Vec<_> = pids.keys().map(String::as_str).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["paused", "runs", "waits"]);
}
