//! Labels arrive later; the loss is charged to whom it belongs, and paired on the same inputs.

use serde_json::json;

use super::{Box, bundle, line, logistic};

#[tokio::test]
async fn paired_sums_are_exact() {
    let agent = Box::start().await;
    let slot = Box::slot();
    agent.slots.activate(&slot, line("old", "line_b.onnx"));
    assert_eq!(agent.infer("before", 2, &[1.0; 10]).await.0, 200);
    agent.slots.activate(&slot, line("new", "line.onnx"));
    // The new line says 2a - b + 1: 1, 4 and 2; the old one says one less. Five times, or nothing would be told.
    for copy in 0..5 {
        assert_eq!(agent.infer(&format!("r-1-{copy}"), 2, &[1.0, 2.0, 3.0, 3.0]).await.0, 200);
        assert_eq!(agent.infer(&format!("r-2-{copy}"), 2, &[1.0, 1.0]).await.0, 200);
    }
    assert_eq!(agent.infer("", 2, &[9.0, 9.0]).await.0, 200);

    let mut labels = Vec::new();
    for copy in 0..5 {
        let (first, second) = (format!("r-1-{copy}"), format!("r-2-{copy}"));
        labels.extend([
            json!({ "request": first, "row": 0, "value": 1.0 }),
            json!({ "request": first, "row": 1, "value": 2.0 }),
            json!({ "request": second, "value": 5.0 }),
            json!({ "request": second, "value": 5.0 }),
            json!({ "request": "before", "row": copy, "value": 0.0 }),
            json!({ "request": "never", "row": 0, "value": 0.0 }),
            json!({ "request": first, "row": 2, "value": 0.0 }),
        ]);
    }
    let labels = json!({ "slot": "m", "labels": labels }).to_string();
    let tally = agent.post("/muster/v1/labels", labels.clone()).await;
    assert_eq!(tally, (200, json!({ "matched": 20, "unknown": 10, "late": 0, "repeated": 5 })));
    let again = agent.post("/muster/v1/labels", labels).await;
    assert_eq!(again, (200, json!({ "matched": 0, "unknown": 10, "late": 0, "repeated": 25 })));

    let blocks = agent.slots.label_blocks();
    let of = |version: &str| blocks.iter().find(|block| block.bundle == bundle(version).sha256).unwrap();
    let new = of("new");
    // Errors 0, 2, -3 of the new line; -1, 1, -4 of the old one on the same inputs.
    assert_eq!((new.n, new.label_sum, new.prediction_sum), (15, 40.0, 35.0));
    assert_eq!((new.loss_sum, new.loss_sum_sq), (65.0, 485.0));
    let against = new.against.as_ref().unwrap();
    assert_eq!((against.bundle, against.n, against.loss_sum), (bundle("old").sha256, 15, 90.0));
    // Differences 0 - 1, 4 - 1, 9 - 16.
    assert_eq!((against.diff_sum, against.diff_sum_sq), (-25.0, 295.0));
    let old = of("old");
    assert_eq!((old.n, old.loss_sum, old.against.is_none()), (5, 5.0, true));
    assert_eq!((blocks.len(), agent.slots.label_blocks().len()), (2, 0));
    agent.stop().await;
}

#[tokio::test]
async fn the_day_is_the_predictions() {
    let agent = Box::start().await;
    agent.slots.activate(&Box::slot(), line("1", "line.onnx"));
    assert_eq!(agent.infer("r", 2, &[0.0; 10]).await.0, 200);
    let day = agent.now().floor_to(std::time::Duration::from_hours(24));
    agent.pass(3 * 86_400);
    let labels: Vec<_> = (0..5).map(|row| json!({ "request": "r", "row": row, "value": 1.0 })).collect();
    let labels = json!({ "slot": "m", "labels": labels });
    assert_eq!(agent.post("/muster/v1/labels", labels.to_string()).await.1["matched"], 5);
    assert_eq!(agent.slots.label_blocks()[0].day, day);
    agent.stop().await;
}

#[tokio::test]
async fn labels_that_cannot_be_are_refused_as_a_whole() {
    let agent = Box::start().await;
    agent.slots.activate(&Box::slot(), logistic("1", "logistic.onnx"));
    assert_eq!(agent.infer("r", 4, &[0.0; 4]).await.0, 200);
    let good = json!({ "request": "r", "row": 0, "value": 1.0 });
    let check = async |body: serde_json::Value, status: u16, expect: &str| {
        let answer = agent.post("/muster/v1/labels", body.to_string()).await;
        assert!(answer.0 == status && answer.1["error"].as_str().unwrap().contains(expect), "{answer:?}");
    };
    check(json!({ "slot": "m", "labels": [good, { "request": "r", "value": 2.0 }] }), 400, "between 0 and 1")
        .await;
    check(
        json!({ "slot": "m", "labels": [good, { "request": "r", "row": -1, "value": 1.0 }] }),
        400,
        "labels of a slot",
    )
    .await;
    check(json!({ "slot": "other", "labels": [good] }), 404, "no model 'other'").await;
    check(json!({ "labels": [] }), 400, "missing field `slot`").await;
    let many: Vec<_> = (0..10_001).map(|_| json!({"request":"","value":0})).collect();
    // The body limit of this server is smaller than so many labels; either way they are not taken.
    let answer = agent.post("/muster/v1/labels", json!({ "slot": "m", "labels": many }).to_string()).await;
    assert!(matches!(answer.0, 400 | 413), "{answer:?}");
    assert!(agent.slots.label_blocks().is_empty());
    agent.stop().await;
}
