//! The Open Inference Protocol over REST, as clients of other servers speak it.

use muster_agent::serve::{self, Desk, ServeConfig, ServeError};
use serde_json::{Value, json};

use super::{Box, logistic};
use crate::hardware::is_intel;

fn error(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"].as_str().unwrap_or_else(|| panic!("no error in {answer:?}")))
}

#[tokio::test]
async fn health_and_metadata() {
    let agent = Box::start().await;
    assert_eq!(agent.get("/v2/health/live").await, (200, json!({ "live": true, "ready": true })));
    agent.slots.wish([Box::slot()].into());
    assert_eq!(agent.get("/v2/health/live").await.0, 200);
    assert_eq!(agent.get("/v2/health/ready").await, (503, json!({ "live": true, "ready": false })));
    assert_eq!(error(&agent.get("/v2/models/m/ready").await).0, 503);
    assert_eq!(error(&agent.infer("", 4, &[0.0; 4]).await).0, 503);
    let (_, index) = agent.post("/v2/repository/index", "").await;
    assert_eq!(index[0]["state"], "UNAVAILABLE");
    assert_eq!(agent.post("/v2/repository/index", r#"{"ready":true}"#).await, (200, json!([])));

    agent.slots.activate(&Box::slot(), logistic("1.0", "logistic.onnx"));
    assert_eq!(agent.get("/v2/health/ready").await, (200, json!({ "live": true, "ready": true })));
    assert_eq!(agent.get("/v2").await.1["name"], "muster-agent");
    let platform = if is_intel() { "onnxruntime_openvino" } else { "onnxruntime_cpu" };
    for path in ["/v2/models/m", "/v2/models/m/versions/1.0"] {
        let (status, model) = agent.get(path).await;
        assert_eq!(
            (status, &model["versions"], &model["platform"]),
            (200, &json!(["1.0"]), &json!(platform))
        );
        assert_eq!(model["inputs"], json!([{ "name": "x", "datatype": "FP32", "shape": [-1, 4] }]));
    }
    assert_eq!(
        agent.get("/v2/models/m/versions/1.0/ready").await,
        (200, json!({ "name": "m", "ready": true }))
    );
    let (_, index) = agent.post("/v2/repository/index", r#"{"ready":true}"#).await;
    assert_eq!(index, json!([{ "name": "m", "version": "1.0", "state": "READY", "reason": "" }]));
    assert_eq!(agent.get("/muster/v1/state").await, (200, json!({ "observed_generation": 7 })));
    agent.stop().await;
}

#[tokio::test]
async fn inference_flat_nested_and_selected() {
    let agent = Box::start().await;
    agent.slots.activate(&Box::slot(), logistic("1.0", "logistic.onnx"));
    let (status, flat) = agent.infer("r-1", 4, &[0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 0.5]).await;
    assert_eq!(
        (status, &flat["id"], &flat["model_name"], &flat["model_version"]),
        (200, &json!("r-1"), &json!("m"), &json!("1.0"))
    );
    assert_eq!(
        (&flat["outputs"][0]["name"], &flat["outputs"][0]["shape"]),
        (&json!("score"), &json!([2, 1]))
    );
    let first = flat["outputs"][0]["data"][0].as_f64().unwrap();
    assert!((first - 0.524_979).abs() < 1e-5, "{first}");

    let nested = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2,4],"data":[[0,0,0,0],[1,2,3,0.5]]}],
        "outputs":[{"name":"score"}],"parameters":{"priority":1}}"#;
    let (status, nested) = agent.post("/v2/models/m/versions/1.0/infer", nested).await;
    assert_eq!((status, &nested["outputs"]), (200, &flat["outputs"]));
    assert_eq!(nested.get("id"), None);
    agent.stop().await;
}

#[tokio::test]
async fn what_is_malformed_is_refused_with_a_sentence() {
    let agent = Box::start().await;
    agent.slots.activate(&Box::slot(), logistic("1.0", "logistic.onnx"));
    let input = |name: &str, datatype: &str, shape: Value, data: &str| {
        format!(r#"{{"inputs":[{{"name":"{name}","datatype":"{datatype}","shape":{shape},"data":{data}}}]}}"#)
    };
    let cases = [
        (String::from("hello"), "not an inference request"),
        (String::from("{}"), "missing field `inputs`"),
        (input("y", "FP32", json!([1, 4]), "[0,0,0,0]"), "no input 'y'"),
        (input("x", "FP64", json!([1, 4]), "[0,0,0,0]"), "takes FP32"),
        (input("x", "FP32", json!([1, 3]), "[0,0,0]"), "takes [-1, 4]"),
        (input("x", "FP32", json!([4]), "[0,0,0,0]"), "takes [-1, 4]"),
        (input("x", "FP32", json!([1, 4]), "[0,0,0]"), "3 elements"),
        (input("x", "FP32", json!([1, 4]), "[0,0,0,NaN]"), "NaN"),
        (input("x", "FP32", json!([1, 4]), "[0,0,0,1e60]"), "not a finite number"),
        (input("x", "FP32", json!([1, 4]), "[0,0,0,null]"), "element 3 of input 'x' is not a FP32"),
    ];
    let count = cases.len() as u64;
    for (body, expect) in cases {
        let answer = agent.post("/v2/models/m/infer", body.clone()).await;
        let (status, sentence) = error(&answer);
        assert!(status == 400 && sentence.contains(expect), "{body}: {answer:?}");
    }
    let stats = agent.slots.stats();
    assert_eq!((stats[0].requests, stats[0].refused, stats[0].failures), (count, count, 0));
    assert_eq!(agent.infer("", 4, &[0.0; 4]).await.0, 200);
    agent.stop().await;
}

#[tokio::test]
async fn unknown_things_and_forbidden_things() {
    let agent = Box::start().await;
    agent.slots.activate(&Box::slot(), logistic("1.0", "logistic.onnx"));
    for path in
        ["/v2/models/n", "/v2/models/m/versions/2", "/v2/models/a%2Fb", "/nothing", "/v2/models/M/ready"]
    {
        assert_eq!(error(&agent.get(path).await).0, 404, "{path}");
    }
    assert_eq!(error(&agent.post("/v2/models/n/infer", "{}").await).0, 404);
    assert_eq!(error(&agent.post("/v2/repository/models/m/load", "").await).0, 403);
    assert_eq!(error(&agent.post("/v2/repository/models/m/unload", "{}").await).0, 403);
    assert_eq!(error(&agent.get("/v2/models/m/infer").await).0, 405);
    for path in [
        "/v2/trace/setting",
        "/v2/models/m/trace/setting",
        "/v2/logging",
        "/v2/systemsharedmemory/status",
        "/v2/systemsharedmemory/region/r/status",
        "/v2/cudasharedmemory/status",
    ] {
        assert_eq!(error(&agent.get(path).await).0, 501, "{path}");
        assert_eq!(error(&agent.post(path, "{}").await).0, 501, "{path}");
    }
    assert_eq!(error(&agent.get("/v2/models/n/stats").await).0, 404);
    assert_eq!(error(&agent.get("/v2/models/m/versions/2/config").await).0, 404);
    assert_eq!(error(&agent.post("/v2/models/m/infer", vec![b' '; 65 * 1024]).await).0, 413);
    agent.slots.clear(&Box::slot());
    assert_eq!(error(&agent.infer("", 4, &[0.0; 4]).await).0, 404);
    agent.stop().await;
}

#[tokio::test]
async fn statistics_configuration_and_metrics() {
    let agent = Box::start().await;
    agent.slots.activate(&Box::slot(), logistic("1.0", "logistic.onnx"));
    assert_eq!(agent.infer("", 4, &[0.0; 8]).await.0, 200);
    assert_eq!(agent.infer("", 3, &[0.0; 3]).await.0, 400);
    for path in ["/v2/models/m/stats", "/v2/models/m/versions/1.0/stats", "/v2/models/stats"] {
        let (status, stats) = agent.get(path).await;
        let stats = &stats["model_stats"][0];
        assert_eq!((status, &stats["name"], &stats["version"]), (200, &json!("m"), &json!("1.0")));
        assert_eq!((&stats["inference_count"], &stats["execution_count"]), (&json!(2), &json!(1)));
        assert_eq!(stats["last_inference"], json!(agent.now().as_millis()));
        let spent = |of: &str| stats["inference_stats"][of]["ns"].as_u64().unwrap();
        let parts =
            spent("queue") + spent("compute_input") + spent("compute_infer") + spent("compute_output");
        assert!(spent("compute_infer") > 0 && parts <= spent("success"), "{stats}");
        assert_eq!(stats["inference_stats"]["fail"], json!({ "count": 0, "ns": 0 }));
    }
    for path in ["/v2/models/m/config", "/v2/models/m/versions/1.0/config"] {
        let (status, config) = agent.get(path).await;
        assert_eq!((status, &config["max_batch_size"]), (200, &json!(0)));
        assert_eq!(config["input"], json!([{ "name": "x", "data_type": "TYPE_FP32", "dims": [-1, 4] }]));
        assert_eq!(config["instance_group"][0]["kind"], "KIND_CPU");
    }
    let response = agent.http.get(format!("{}/metrics", agent.url)).send().await.unwrap();
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let text = response.text().await.unwrap();
    let labels = "model=\"m\",version=\"1.0\"";
    for line in [
        format!("muster_infer_requests_total{{{labels},outcome=\"answered\"}} 1"),
        format!("muster_infer_requests_total{{{labels},outcome=\"refused\"}} 1"),
        format!("muster_infer_rows_total{{{labels}}} 2"),
        format!("muster_infer_request_seconds_count{{{labels}}} 1"),
        format!("muster_infer_run_seconds_bucket{{{labels},le=\"+Inf\"}} 1"),
        "muster_ready 1".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    crate::board::check(include_str!("../../../../docs/grafana/box.json"), &text);
    agent.stop().await;
}

#[tokio::test]
async fn only_loopback_is_served() {
    let agent = Box::start().await;
    let (_, state) = tokio::sync::watch::channel(Value::Null);
    let config = ServeConfig { listen: ([0, 0, 0, 0], 0).into(), ..ServeConfig::default() };
    let refused =
        serve::start(config, agent.slots.clone(), state.clone(), Desk::new("key").0, agent.stop.clone())
            .await;
    assert!(matches!(refused, Err(ServeError::NotLoopback(_))));
    let config = ServeConfig { listen: agent.server.addr, ..ServeConfig::default() };
    let taken =
        serve::start(config, agent.slots.clone(), state, Desk::new("key").0, agent.stop.clone()).await;
    assert!(matches!(taken, Err(ServeError::Bind { .. })));
    agent.stop().await;
}
