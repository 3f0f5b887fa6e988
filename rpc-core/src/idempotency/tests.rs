use super::*;
use crate::protocol::{CallId, MethodKind};

const TARGET: Target = Target {
    service: 0,
    method: 0,
    kind: MethodKind::Unary,
};

fn cache(bounds: KeptResults) -> Arc<ResultCache> {
    Arc::new(ResultCache::new(bounds))
}

fn failed(code: Code, message: impl Into<String>) -> Reply {
    Reply::error(Status::new(code, message.into()))
}

fn arrive(cache: &Arc<ResultCache>, key: &str) -> Arrival {
    cache.arrive(TARGET, None, key.into(), Codec::MessagePack, b"arguments")
}

fn first(cache: &Arc<ResultCache>, key: &str) -> Execution {
    match arrive(cache, key) {
        Arrival::First(execution) => execution,
        Arrival::Repeated(_) => panic!("{key} is being executed"),
        Arrival::Answered(reply) => panic!("{key} was answered with {reply:?}"),
    }
}

fn repeated(cache: &Arc<ResultCache>, key: &str) -> Repetition {
    match arrive(cache, key) {
        Arrival::Repeated(repetition) => repetition,
        _ => panic!("{key} is not being executed"),
    }
}

fn answered(arrival: Arrival) -> Reply {
    match arrival {
        Arrival::Answered(reply) => reply,
        _ => panic!("not answered"),
    }
}

/// The terminal frame, which shows all that a reply has.
fn frame(reply: Reply) -> Vec<u8> {
    let id = CallId::of(1, crate::protocol::Side::Dialler);
    reply.into_frame(id, Codec::Json).to_vec()
}

fn text(reply: Reply) -> String {
    String::from_utf8(frame(reply)).unwrap()
}

#[tokio::test]
async fn repetitions_get_the_answer_of_the_first_call_while_it_runs_and_after_it() {
    let cache = cache(KeptResults::default());
    let execution = first(&cache, "a");
    let waiting = [repeated(&cache, "a"), repeated(&cache, "a")];
    let reply = failed(Code::NOT_FOUND, "no room");
    execution.end(&reply);
    let expected = frame(reply);
    for repetition in waiting {
        assert_eq!(frame(repetition.reply().await), expected);
    }
    for _ in 0..2 {
        assert_eq!(frame(answered(arrive(&cache, "a"))), expected);
    }
}

/// W-KEY-6.
#[tokio::test]
async fn a_key_belongs_to_its_user() {
    let cache = cache(KeptResults::default());
    let arrive = |user: Option<&str>| {
        let user = user.map(Arc::from);
        cache.arrive(TARGET, user, "a".into(), Codec::MessagePack, b"arguments")
    };
    let users = [None, Some("alice"), Some("bob")];
    let executions = users.map(|user| match arrive(user) {
        Arrival::First(execution) => execution,
        _ => panic!("{user:?} has got another one's"),
    });
    assert!(matches!(arrive(Some("bob")), Arrival::Repeated(_)));
    drop(executions);
}

#[tokio::test]
async fn a_key_belongs_to_its_method_and_its_arguments() {
    let cache = cache(KeptResults::default());
    let _execution = first(&cache, "a");
    for (codec, arguments) in [(Codec::MessagePack, "others"), (Codec::Json, "arguments")] {
        let other = cache.arrive(TARGET, None, "a".into(), codec, arguments.as_bytes());
        let refused = text(answered(other));
        assert!(refused.starts_with("[8,3,3,"), "{refused}");
        assert!(refused.contains("{\"1\":1}"), "{refused}");
    }
    for (service, method) in [(0, 1), (1, 0)] {
        let other = Target {
            service,
            method,
            ..TARGET
        };
        let arrival = cache.arrive(other, None, "a".into(), Codec::Json, b"others");
        assert!(matches!(arrival, Arrival::First(_)));
    }
    first(&cache, "A");
}

#[tokio::test(start_paused = true)]
async fn a_result_is_kept_for_its_time_from_the_end_of_the_call() {
    let cache = cache(KeptResults::default().max_age(Duration::from_secs(60)));
    let execution = first(&cache, "a");
    // However long it runs.
    tokio::time::advance(Duration::from_secs(3600)).await;
    repeated(&cache, "a");
    execution.end(&failed(Code::ABORTED, "1"));
    tokio::time::advance(Duration::from_secs(59)).await;
    answered(arrive(&cache, "a"));
    first(&cache, "b").end(&failed(Code::ABORTED, "2"));
    tokio::time::advance(Duration::from_secs(1)).await;
    drop(first(&cache, "a"));
    answered(arrive(&cache, "b"));
    assert_eq!(cache.lock().ended.len(), 2);
}

#[tokio::test]
async fn beyond_as_many_as_are_kept_the_oldest_results_go_and_running_calls_stay() {
    let cache = cache(KeptResults::default().max_results(3));
    let running = first(&cache, "running");
    for key in ["a", "b", "c"] {
        first(&cache, key).end(&failed(Code::ABORTED, key));
    }
    assert!(matches!(arrive(&cache, "running"), Arrival::Repeated(_)));
    answered(arrive(&cache, "b"));
    answered(arrive(&cache, "c"));
    let a = first(&cache, "a");
    let b = first(&cache, "b");
    // All three are being executed.
    let refused = text(answered(arrive(&cache, "d")));
    assert!(refused.starts_with("[8,3,8,"), "{refused}");
    assert!(refused.contains("{\"1\":1}"), "{refused}");
    for execution in [running, a, b] {
        execution.end(&failed(Code::ABORTED, ""));
    }
    first(&cache, "d");
}

#[tokio::test]
async fn beyond_as_many_bytes_as_are_kept_the_oldest_results_go() {
    let result = "x".repeat(1000);
    let bounds = KeptResults::default().max_bytes(3 * (1000 + ENTRY_BYTES + 1));
    let cache = cache(bounds.clone());
    for key in ["a", "b", "c", "d"] {
        first(&cache, key).end(&failed(Code::ABORTED, &*result));
        assert!(cache.lock().bytes <= bounds.max_bytes);
    }
    for key in ["b", "c", "d"] {
        assert!(text(answered(arrive(&cache, key))).contains(&result));
    }
    drop(first(&cache, "a"));
    let table = cache.lock();
    assert_eq!(table.entries.len(), table.ended.len());
    let bytes: usize = table.ended.iter().map(|ended| ended.bytes).sum();
    assert_eq!(table.bytes, bytes);
}

#[tokio::test]
async fn of_a_result_that_is_too_large_only_those_who_wait_get_it() {
    let cache = cache(KeptResults::default().max_result_bytes(100));
    let large = failed(Code::NOT_FOUND, "x".repeat(101));
    let execution = first(&cache, "a");
    let waiting = repeated(&cache, "a");
    execution.end(&large);
    assert_eq!(frame(waiting.reply().await), frame(large));
    let refused = text(answered(arrive(&cache, "a")));
    assert!(refused.starts_with("[8,3,9,"), "{refused}");
    // Executed.
    assert!(!refused.contains("{\"1\""), "{refused}");
}

#[tokio::test]
async fn a_call_that_had_no_effect_leaves_its_key_free() {
    let cache = cache(KeptResults::default());
    let status = Status::new(Code::INVALID_ARGUMENT, "bad").with_fate(Fate::NotExecuted);
    let refused = Reply::error(status);
    let execution = first(&cache, "a");
    let waiting = repeated(&cache, "a");
    execution.end(&refused);
    assert_eq!(frame(waiting.reply().await), frame(refused));
    first(&cache, "a");
}

#[tokio::test]
async fn a_handler_that_is_dropped_leaves_an_unknown_fate() {
    let cache = cache(KeptResults::default());
    let execution = first(&cache, "a");
    let waiting = repeated(&cache, "a");
    drop(execution);
    for reply in [waiting.reply().await, answered(arrive(&cache, "a"))] {
        let reply = text(reply);
        assert!(reply.starts_with("[8,3,10,"), "{reply}");
        assert!(reply.contains("{\"1\":2}"), "{reply}");
    }
}
