//! Trainings that run elsewhere, from the claim to the signed bundle: against servers that are as particular as the real
//! tools (Jenkins, `GitHub`, Kubernetes, Ray, Airflow, a webhook's receiver), and against a real `MLflow`, a real Ray and a
//! real Airflow.

mod airflow;
mod docs;
mod foreign;
mod jobs;
mod mlflow;
mod ray;
mod tools;
mod whole;

use muster_fleet::builder::worker::RunEnd;
use muster_fleet::client::Finish;

use crate::builder::{Bench, failure};
use crate::onnx;
use jobs::Job;
use tools::Tool;

/// One run by a tool, whose job does as it is told.
async fn train(tool: Tool, job: Job) -> (Bench, tools::Running, RunEnd) {
    let bench = Bench::start().await;
    bench.champion([-1.0, 2.0]).await;
    let trained = bench.publisher.path("trained");
    onnx::trainer_output(&trained, &onnx::logistic([4.0, -2.0], 0.0));
    let running = tool.start(job.on(&trained)).await;
    let secret = bench.publisher.path("secret");
    std::fs::write(&secret, "a secret of sixteen bytes and more\n").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(bench.publisher.path("job.json"), tools::JOB).unwrap();
    let end = bench.work_elsewhere(&running.config(), "").await;
    (bench, running, end)
}

#[tokio::test]
async fn each_tool_trains_what_is_signed_and_published() {
    for tool in Tool::ALL {
        let (bench, running, end) = train(tool, Job::Deliver).await;
        let RunEnd::Finished(Finish::Published { bundle, .. }) = &end else { panic!("{tool:?}: {end:?}") };
        assert!(bundle.path.to_string().starts_with("bundles/er/auto/"), "{tool:?}");
        bench.fleet.with(|asked| {
            let manifest = &asked.blobs[&bundle.sha256.to_string()];
            let manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
            assert_eq!(manifest["lineage"]["trigger"], "trg-00000000000000000000000001", "{tool:?}");
        });
        assert_eq!(running.begun(), 1, "{tool:?}: one job, however often it was asked for");
    }
}

#[tokio::test]
async fn a_tool_that_is_asked_twice_begins_once() {
    for tool in Tool::ALL {
        let (_, running, end) = train(tool, Job::DeliverAfterAShakyStart).await;
        assert!(matches!(end, RunEnd::Finished(Finish::Published { .. })), "{tool:?}: {end:?}");
        assert_eq!(running.begun(), 1, "{tool:?}");
    }
}

#[tokio::test]
async fn jobs_that_fail_say_so_with_their_tools_own_words() {
    for (tool, says) in [
        (Tool::Ray, "CUDA out of memory"),
        (Tool::Airflow, "the DAG run failed"),
        (Tool::Jenkins, "build 7 ended as FAILURE"),
        (Tool::Github, "the workflow ended as failure"),
        (Tool::Kubernetes, "BackoffLimitExceeded"),
    ] {
        let (_, _, end) = train(tool, Job::Fail).await;
        let (code, sentence) = failure(&end);
        assert_eq!(code, "trainer_exit", "{tool:?}: {sentence}");
        assert!(sentence.contains(says), "{tool:?}: {sentence}");
    }
}

#[tokio::test]
async fn a_trainer_that_hands_back_its_failure_is_heard() {
    let (_, _, end) = train(Tool::Webhook, Job::SayFailed).await;
    assert_eq!(failure(&end), ("trainer_exit", "the trainer said: no rows since the onset"));
}

#[tokio::test]
async fn jobs_that_hang_are_taken_back() {
    for tool in Tool::ALL {
        let (_, running, end) = train(tool, Job::Hang).await;
        assert_eq!(failure(&end).0, "trainer_timeout", "{tool:?}");
        assert!(running.was_cancelled(), "{tool:?}");
    }
}

#[tokio::test]
async fn what_no_trainer_writes_is_not_taken_in() {
    for (job, code) in [
        (Job::DeliverGarbage, "model_invalid"),
        (Job::DeliverWorse, "worse_on_recent"),
        (Job::DeliverOtherModel, "output_invalid"),
        (Job::DeliverPoisoned, "result_damaged"),
    ] {
        let (bench, _, end) = train(Tool::Webhook, job).await;
        assert_eq!(failure(&end).0, code, "{job:?}: {end:?}");
        bench.fleet.with(|asked| assert!(!asked.trust.contains_key("auto-er.json"), "{job:?}"));
    }
}

#[tokio::test]
async fn a_tool_that_refuses_is_told_with_its_words() {
    let (_, _, end) = train(Tool::Github, Job::Refused).await;
    let (code, sentence) = failure(&end);
    assert_eq!(code, "tool_refused");
    assert!(sentence.contains("403") && sentence.contains("rate limit"), "{sentence}");
}
