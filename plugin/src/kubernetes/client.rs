//! The one who speaks to the API server: one Event at a time, and for no longer
//! than a limit. What it can't post is counted, and posted when it happens again.

use std::{
    collections::HashMap,
    error::Error,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, PostParams},
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    event::{COMPONENT, Notice},
    gate::Gate,
};
use crate::metrics::{Metrics, Posting};

/// What posting one may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Between two errors that are logged.
const QUIET: Duration = Duration::from_mins(1);
/// Most containers of which the pod's uid is kept; then it begins anew.
const UIDS_MAX: usize = 1024;
/// Of a static pod: what its Events have as uid, as kubelet and kubectl have it.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Why one was not posted.
#[derive(Debug, thiserror::Error)]
enum PostError {
    /// No API server, or no way to one.
    #[error("no client: {}", causes(.0))]
    Client(kube::Error),
    /// The pod.
    #[error("get pods: {}", causes(.0))]
    Pod(kube::Error),
    /// The Event.
    #[error("create events: {}", causes(.0))]
    Event(kube::Error),
    /// It took too long.
    #[error("the API server did not answer within {0:?}")]
    Time(Duration),
}

/// Posts Events.
pub(super) struct Poster {
    gate: Arc<Mutex<Gate>>,
    metrics: Arc<Metrics>,
    limit: Duration,
    /// Where the API server is; looked up where it is `None`.
    config: Option<Config>,
    /// Made anew after each failure: certificates on disk change.
    client: Option<Client>,
    /// By container; `None` where the pod was gone.
    uids: HashMap<String, Option<String>>,
    seldom: Seldom,
}

impl std::fmt::Debug for Poster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A configuration has credentials.
        f.debug_struct("Poster").finish_non_exhaustive()
    }
}

impl Poster {
    pub(super) fn new(gate: Arc<Mutex<Gate>>, metrics: Arc<Metrics>) -> Self {
        Self {
            gate,
            metrics,
            limit: LIMIT,
            config: None,
            client: None,
            uids: HashMap::new(),
            seldom: Seldom::default(),
        }
    }

    /// For tests: another API server than the one that would be found.
    #[cfg(test)]
    pub(super) fn to(mut self, config: Config, limit: Duration) -> Self {
        self.config = Some(config);
        self.limit = limit;
        self
    }

    /// Posts what is queued until nobody can queue more.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Notice>) {
        while let Some(notice) = queue.recv().await {
            let posted = timeout(self.limit, self.post(&notice)).await;
            let posted = posted.unwrap_or(Err(PostError::Time(self.limit)));
            match posted {
                Ok(()) => {
                    self.metrics.posting(Posting::Posted).inc();
                }
                Err(error) => self.failed(&notice, &error),
            }
        }
    }

    async fn post(&mut self, notice: &Notice) -> Result<(), PostError> {
        let client = self.client().await?;
        let mut event = notice.event.clone();
        event.involved_object.uid = self.uid(&client, notice).await?;
        let events = Api::<Event>::namespaced(client, &notice.namespace);
        let how = PostParams {
            field_manager: Some(COMPONENT.to_owned()),
            ..PostParams::default()
        };
        match events.create(&how, &event).await {
            Ok(_created) => Ok(()),
            Err(error) => Err(PostError::Event(error)),
        }
    }

    async fn client(&mut self) -> Result<Client, PostError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let mut config = match &self.config {
            Some(config) => config.clone(),
            None => Config::infer()
                .await
                .map_err(|error| PostError::Client(kube::Error::InferConfig(error)))?,
        };
        // What fails is posted when it happens again; until then others wait.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(PostError::Client)?;
        self.client = Some(client.clone());
        Ok(client)
    }

    /// `kubectl describe pod` asks for Events with the uid of the pod.
    async fn uid(&mut self, client: &Client, notice: &Notice) -> Result<Option<String>, PostError> {
        if let Some(uid) = self.uids.get(&notice.key.container) {
            return Ok(uid.clone());
        }
        let pods = Api::<Pod>::namespaced(client.clone(), &notice.namespace);
        let pod = pods.get_metadata_opt(&notice.pod).await;
        // Where it is gone, the namespace still has the Event.
        let uid = pod
            .map_err(PostError::Pod)?
            .and_then(|pod| uid_of(pod.metadata));
        if self.uids.len() >= UIDS_MAX {
            self.uids.clear();
        }
        // One that is not there may come yet: a static pod's mirror is made after it.
        if uid.is_some() {
            self.uids.insert(notice.key.container.clone(), uid.clone());
        }
        Ok(uid)
    }

    fn failed(&mut self, notice: &Notice, error: &PostError) {
        self.client = None;
        self.metrics.posting(Posting::Failed).inc();
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.forget(&notice.key);
        drop(gate);
        if let Some(unsaid) = self.seldom.say(Instant::now()) {
            log::warn!(
                "no Kubernetes Event on pod {}/{}: {error}; {unsaid} more were not posted since \
                 this was said last",
                notice.namespace,
                notice.pod
            );
        }
    }
}

fn uid_of(pod: ObjectMeta) -> Option<String> {
    let mirror = pod.annotations.and_then(|mut all| all.remove(MIRROR));
    mirror.or(pod.uid)
}

/// An error with what it comes from, which its own text may leave out.
fn causes(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            // Writing to a string does not fail.
            let _written = write!(text, ": {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// When something is said that could be said all the time.
#[derive(Debug, Default)]
struct Seldom {
    said: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// How often it was not said since the last time; `None` where that was not long
    /// ago.
    fn say(&mut self, now: Instant) -> Option<u64> {
        if self
            .said
            .is_some_and(|said| now.duration_since(said) < QUIET)
        {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_a_minute_with_how_often_it_was_not() {
        let mut seldom = Seldom::default();
        let begin = Instant::now();
        assert_eq!(seldom.say(begin), Some(0));
        assert_eq!(seldom.say(begin), None);
        assert_eq!(
            seldom.say(begin + QUIET.saturating_sub(Duration::from_nanos(1))),
            None
        );
        assert_eq!(seldom.say(begin + QUIET), Some(2));
        assert_eq!(seldom.say(begin + QUIET * 2), Some(0));
    }

    #[test]
    fn a_static_pod_has_the_uid_of_its_mirror() {
        let mut pod = ObjectMeta {
            uid: Some("a".to_owned()),
            ..ObjectMeta::default()
        };
        assert_eq!(uid_of(pod.clone()).as_deref(), Some("a"));
        pod.annotations = Some([(MIRROR.to_owned(), "b".to_owned())].into());
        assert_eq!(uid_of(pod).as_deref(), Some("b"));
    }
}
