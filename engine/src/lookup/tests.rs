//! Tests on directories as the engines write them.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;

/// Sources in a directory of the test's own; nothing is there yet.
fn sources() -> (TempDir, Sources) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let sources = Sources {
        containerd: vec![at("containerd.sock")],
        docker: at("docker"),
        storage: at("graph"),
        storage_run: at("run"),
        runc: at("runc"),
        crun: at("crun"),
        run_dir: at("execblock"),
    };
    (dir, sources)
}

fn write(path: &Path, value: &serde_json::Value) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, value.to_string()).unwrap();
}

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// This process stands for a container's first.
fn own_pid() -> u32 {
    std::process::id()
}

fn docker(sources: &Sources, id: &str, name: &str, running: bool) {
    let dir = sources.docker.join("containers").join(id);
    let state =
        json!({"Running": running, "Paused": false, "Pid": if running { own_pid() } else { 0 }});
    write(
        &dir.join("config.v2.json"),
        &json!({"ID": id, "Name": format!("/{name}"), "State": state, "Config": {"Labels": {}}}),
    );
    write(
        &dir.join("hostconfig.json"),
        &json!({"Annotations": {"execblock/deny": "whoami", "other": "x"}}),
    );
}

#[test]
fn dockers_containers_have_names_and_annotations() {
    let (_dir, sources) = sources();
    docker(&sources, &id('a'), "web", true);
    docker(&sources, &id('b'), "old", false);
    let found = sources.find("web").unwrap();
    assert_eq!(found.owner.engine, "docker");
    assert_eq!(found.owner.container, id('a'));
    let pid = own_pid().try_into().unwrap();
    assert_eq!(
        found.place,
        Place::Init {
            pid,
            cgroups_path: None
        }
    );
    assert_eq!(found.annotations.len(), 1);
    let error = sources.find("bbbb").unwrap_err();
    assert!(matches!(error, LookupError::NotRunning(_)), "{error}");
}

#[test]
fn podmans_and_cri_os_containers_come_from_their_storage() {
    let (_dir, sources) = sources();
    let (podman, cri_o, sandbox) = (id('1'), id('2'), id('3'));
    let list = json!([
        {"id": podman, "names": ["web"], "metadata": "{\"image-name\":\"x\",\"name\":\"web\"}"},
        {"id": cri_o, "names": ["k8s_app_site_default_uid_0"],
         "metadata": "{\"pod-name\":\"site\",\"pod-id\":\"3\"}"},
        {"id": sandbox, "names": ["k8s_POD_site"], "metadata": "{\"pod-name\":\"site\"}"},
    ]);
    write(
        &sources.storage.join("overlay-containers/containers.json"),
        &list,
    );
    let run = |id: &str| {
        sources
            .storage_run
            .join("overlay-containers")
            .join(id)
            .join("userdata")
    };
    let graph = |id: &str| {
        sources
            .storage
            .join("overlay-containers")
            .join(id)
            .join("userdata")
    };
    for id in [&podman, &cri_o, &sandbox] {
        fs::create_dir_all(run(id)).unwrap();
        fs::write(run(id).join("pidfile"), own_pid().to_string()).unwrap();
    }
    // Podman's bundle is in the graph root, CRI-O's in the run root.
    write(
        &graph(&podman).join("config.json"),
        &json!({"linux": {"cgroupsPath": format!("machine.slice:libpod:{podman}")},
                "annotations": {"execblock/deny": "id"}}),
    );
    let annotations = |kind: &str| {
        json!({"annotations": {
            "io.kubernetes.container.name": "app", "io.kubernetes.pod.name": "site",
            "io.kubernetes.pod.namespace": "default", "io.container.manager": "cri-o",
            "io.kubernetes.cri-o.ContainerType": kind,
        }})
    };
    write(&run(&cri_o).join("config.json"), &annotations("container"));
    write(&run(&sandbox).join("config.json"), &annotations("sandbox"));

    let found = sources.find("web").unwrap();
    assert_eq!(
        (&*found.owner.engine, &found.owner.container),
        ("podman", &podman)
    );
    assert!(
        matches!(&found.place, Place::Init { cgroups_path: Some(path), .. }
        if path.starts_with("machine.slice:"))
    );
    assert_eq!(found.annotations["execblock/deny"], "id");
    let found = sources.find("default/site/app").unwrap();
    assert_eq!(
        (&*found.owner.engine, &found.owner.container),
        ("cri-o", &cri_o)
    );
    assert_eq!(sources.list().0.len(), 2, "the sandbox is no container");
}

#[test]
fn a_runtimes_own_state_is_the_last_resort() {
    let (dir, sources) = sources();
    let bundle = dir.path().join("bundle");
    write(
        &bundle.join("config.json"),
        &json!({"annotations": {"execblock/deny": "id"}}),
    );
    let bundle = bundle.to_str().unwrap();
    write(
        &sources.runc.join("byhand/state.json"),
        &json!({"id": "byhand", "init_process_pid": own_pid(),
                "config": {"labels": ["org.x=y", format!("bundle={bundle}")]}}),
    );
    write(
        &sources.crun.join("other/status"),
        &json!({"pid": own_pid(), "bundle": bundle, "cgroup-path": "/x"}),
    );
    for id in ["byhand", "other"] {
        let found = sources.find(id).unwrap();
        assert!(found.is_running());
        assert_eq!(found.annotations["execblock/deny"], "id");
    }
}

#[test]
fn one_container_of_two_sources_is_one() {
    let (_dir, sources) = sources();
    docker(&sources, &id('a'), "web", true);
    write(
        &sources.runc.join(id('a')).join("state.json"),
        &json!({"init_process_pid": own_pid(), "config": {"labels": ["bundle=/none"]}}),
    );
    let (found, looked_at) = sources.list();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].owner.name, "web");
    let answers: Vec<String> = looked_at.iter().map(ToString::to_string).collect();
    assert!(answers[0].ends_with("1 container"), "{answers:?}");
    assert!(answers[1].ends_with("not there"), "{answers:?}");
}

#[test]
fn a_process_that_is_gone_is_no_container_that_runs() {
    let (_dir, sources) = sources();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    write(
        &sources.crun.join("stale/status"),
        &json!({"pid": child.id(), "bundle": "/none"}),
    );
    let error = sources.find("stale").unwrap_err();
    assert!(matches!(error, LookupError::NotRunning(_)), "{error}");
}

#[test]
fn a_record_does_not_say_that_a_container_runs_whose_engine_says_no() {
    let (_dir, sources) = sources();
    docker(&sources, &id('a'), "old", false);
    fs::create_dir_all(&sources.run_dir).unwrap();
    let record = |container: String, name: &str| crate::record::Record {
        owner: Owner {
            container,
            name: name.to_owned(),
            ..Owner::default()
        },
        cgroup: 7,
        path: "/x".into(),
        mode: "enforce".into(),
        ..crate::record::Record::default()
    };
    let records = Records::below(&sources.run_dir);
    records.write(&record(id('a'), "old")).unwrap();
    records.write(&record(id('b'), "alone")).unwrap();
    let error = sources.find("old").unwrap_err();
    assert!(matches!(error, LookupError::NotRunning(_)), "{error}");
    // Of an engine that is down it is all there is.
    assert_eq!(
        sources.find("alone").unwrap().place,
        Place::Cgroup("/x".into())
    );
}

#[test]
fn garbage_in_an_engines_directory_is_left_out() {
    let (_dir, sources) = sources();
    docker(&sources, &id('a'), "web", true);
    for file in [
        sources.docker.join("containers/b/config.v2.json"),
        sources.storage.join("overlay-containers/containers.json"),
        sources.crun.join("x/status"),
        sources.runc.join("y/state.json"),
    ] {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "{\"ID\": [").unwrap();
    }
    assert_eq!(sources.list().0.len(), 1);
}

#[test]
fn a_cgroup_is_named_by_its_path() {
    let (_dir, sources) = sources();
    for query in [
        "cgroup:/a/b",
        "cgroup:/sys/fs/cgroup/a/b",
        "cgroup:/sys/fs/cgroup/unified/a/b",
    ] {
        let found = sources.find(query).unwrap();
        assert_eq!(found.place, Place::Cgroup("/a/b".into()), "{query}");
    }
}

#[test]
fn a_socket_that_nobody_serves_is_told() {
    let (_dir, sources) = sources();
    drop(std::os::unix::net::UnixListener::bind(&sources.containerd[0]).unwrap());
    let (_, looked_at) = sources.list();
    let containerd = looked_at
        .iter()
        .find(|looked| looked.source.starts_with("containerd"))
        .unwrap();
    assert!(containerd.answer.contains("refused"), "{containerd}");
}

#[test]
fn an_id_in_two_namespaces_is_two_containers() {
    let one = |namespace: &str, place: Place| Found {
        owner: Owner {
            container: "web".into(),
            namespace: namespace.into(),
            ..Owner::default()
        },
        place,
        annotations: BTreeMap::new(),
    };
    let runs = Place::Init {
        pid: 7,
        cgroups_path: None,
    };
    for (second, count) in [("two", 2), ("one", 1), ("", 1)] {
        let mut all = Vec::new();
        add(&mut all, one("one", Place::Nowhere));
        add(&mut all, one(second, runs.clone()));
        assert_eq!(all.len(), count, "{second}");
        let running = all.iter().find(|found| found.is_running()).unwrap();
        // The one that runs is not told to be in the other's namespace.
        assert!(
            running.owner.namespace != "one" || count == 1,
            "{running:?}"
        );
    }
}

#[test]
fn containers_of_a_transient_store_are_listed_in_the_run_root() {
    let (_dir, sources) = sources();
    let below = |root: &Path, file: &str| root.join("overlay-containers").join(file);
    write(&below(&sources.storage, "containers.json"), &json!([]));
    write(
        &below(&sources.storage_run, "volatile-containers.json"),
        &json!([{"id": id('4'), "names": ["brief"], "metadata": "{}"}]),
    );
    let userdata = below(&sources.storage_run, &id('4')).join("userdata");
    fs::create_dir_all(&userdata).unwrap();
    fs::write(userdata.join("pidfile"), own_pid().to_string()).unwrap();
    assert_eq!(sources.find("brief").unwrap().owner.container, id('4'));
}
