//! Asking sites for rows over REST: what is asked stands in the signed order beside what runs, and how each box stands to
//! it is told, whatever it says.

use muster_fleet::store::{devices, orders};
use muster_protocol::capture::CaptureStanding;
use muster_protocol::ids::{CaptureId, DeviceId, IncidentId};
use muster_protocol::message::State;
use muster_protocol::trust::{Order, Want};
use serde_json::{Value, json};

use super::{Api, enrol};
use crate::publisher::{Bundle, Publisher};

struct Scene {
    api: Api,
    bundle: Bundle,
    other: Bundle,
    /// Of the site `er`, both ordered to run the bundle; the third is of `icu` and is not.
    boxes: Vec<DeviceId>,
}

impl Scene {
    async fn start() -> Self {
        let api = Api::start().await;
        let (bundle, other) =
            (Bundle::make("bundles/er-beds/1.json", b"1"), Bundle::make("bundles/er-beds/2.json", b"2"));
        Publisher::begin(api.fleet(), &[&bundle, &other]).await;
        let mut boxes = Vec::new();
        for n in [1, 3, 2] {
            boxes.push(enrol(api.fleet(), n, None).await);
        }
        let scene = Self { api, bundle, other, boxes };
        for device in &scene.boxes[..2] {
            scene.order(device, &scene.bundle).await;
        }
        scene
    }

    async fn order(&self, device: &DeviceId, bundle: &Bundle) {
        let fleet = self.api.fleet();
        let want = Want::now("er-beds".parse().unwrap(), bundle.path.clone(), bundle.sha256());
        let mut tx = fleet.store.write().await.unwrap();
        fleet.orders.set_wants(&mut tx, device, &[want]).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The order as the box reads it.
    async fn ordered(&self, device: &DeviceId) -> Order {
        let fleet = self.api.fleet();
        let mut db = fleet.store.read().await.unwrap();
        let stored = orders::get(&mut db, device).await.unwrap().unwrap();
        let trusted = fleet.orders.published(&mut db).await.unwrap();
        let order = Order::authentic(&stored.bytes, &trusted).unwrap();
        assert_eq!(
            (order.version, &order.want, &order.capture),
            (stored.version, &stored.wants, &stored.captures)
        );
        order
    }

    fn body(&self) -> Value {
        json!({"slot": "er-beds", "bundle": self.bundle.sha256(), "site": "er", "why": "review", "rows": 50,
            "for_s": 3600, "reason": "audit"})
    }

    async fn ask(&self, edit: impl FnOnce(&mut Value)) -> super::Answer {
        let mut body = self.body();
        edit(&mut body);
        self.api.post("/api/v1/captures", &body).await
    }

    async fn asked(&self, edit: impl FnOnce(&mut Value)) -> Value {
        let answer = self.ask(edit).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    }

    /// The box says how it stands to a capture.
    async fn says(&self, device: &DeviceId, capture: &Value, standing: CaptureStanding, rows: u64) {
        let at = self.api.fleet().clocks.trust.now();
        let mut tx = self.api.fleet().store.write().await.unwrap();
        let known = devices::get(&mut tx, device).await.unwrap().unwrap().state.unwrap();
        let mut state = serde_json::to_value(&known).unwrap();
        state["sequence"] = (known.sequence + 1).into();
        state["at"] = json!(at);
        state["captures"] = json!([{"request": capture["id"], "slot": "er-beds", "standing": standing, "rows": rows,
            "dropped": 0, "files": 1, "bytes": 65536}]);
        let state: State = serde_json::from_value(state).unwrap();
        assert!(devices::state(&mut tx, device, &state).await.unwrap());
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn what_sites_are_asked_for_stands_in_the_orders_of_the_boxes_meant_until_it_is_cancelled() {
    let scene = Scene::start().await;
    let [one, two, icu] = [0, 1, 2].map(|at| &scene.boxes[at]);
    let before = scene.ordered(one).await;
    let capture = scene.asked(|body| body["score"] = json!({"low": 0.4, "high": 0.6})).await;
    let id: CaptureId = capture["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        (&capture["boxes"], &capture["why"], &capture["reason"]),
        (&json!(2), &json!("review"), &json!("audit"))
    );
    assert_eq!((&capture["score"], capture.get("every")), (&json!({"low": 0.4, "high": 0.6}), None));
    for device in [one, two] {
        let order = scene.ordered(device).await;
        assert_eq!(order.want, before.want, "what runs is not touched");
        let [request] = order.capture.as_slice() else { panic!("{order:?}") };
        assert_eq!((&request.id, request.rows, request.bundle), (&id, 50, scene.bundle.sha256()));
        assert!(order.version > before.version);
    }
    let mut db = scene.api.fleet().store.read().await.unwrap();
    assert_eq!(
        orders::get(&mut db, icu).await.unwrap(),
        None,
        "a box that runs nothing of it is asked nothing"
    );
    drop(db);
    let log = scene.api.see("/api/v1/log?limit=10").await;
    let mut said = log["items"].as_array().unwrap().iter().map(|entry| entry["sentence"].as_str().unwrap());
    assert!(said.any(|it| it.contains("2 boxes to keep 50 rows") && it.contains("audit")), "{log}");

    // Another wish for the box carries on what it was asked; the same wish again is no new order.
    scene.order(one, &scene.bundle).await;
    let same = scene.ordered(one).await;
    scene.order(one, &scene.other).await;
    let other = scene.ordered(one).await;
    assert_eq!((other.want[0].sha256, &other.capture), (scene.other.sha256(), &same.capture));

    // What boxes say of it, none of it a failure.
    scene.says(one, &capture, CaptureStanding::NoSitePolicy, 0).await;
    scene.says(two, &capture, CaptureStanding::Capturing, 45).await;
    let shown = scene.api.see(&format!("/api/v1/captures/{id}")).await;
    let answer = |at: usize| shown["devices"][at]["answer"].clone();
    assert_eq!(answer(0)["standing"]["code"], "no-site-policy");
    assert!(answer(0)["standing"]["sentence"].as_str().unwrap().contains("no capture policy"));
    assert_eq!((&answer(1)["standing"]["code"], &answer(1)["rows"]), (&json!("capturing"), &json!(45)));
    let device = scene.api.see(&format!("/api/v1/devices/{one}")).await;
    assert_eq!((&device["captures"][0], &device["refusal"]), (&answer(0), &Value::Null));
    assert_eq!(scene.api.see("/api/v1/captures").await["items"][0]["boxes"], 2);

    let path = format!("/api/v1/captures/{id}/cancel");
    let cancelled = scene.api.post(&path, &json!({"reason": "enough"})).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text());
    assert!(cancelled.json()["cancelled"].is_string());
    for device in [one, two] {
        assert_eq!(scene.ordered(device).await.capture, vec![]);
    }
    scene.api.post(&path, &json!({})).await.is_problem(409, "state");
    scene.api.stop().await;
}

#[tokio::test]
async fn wishes_that_make_no_sense_are_refused_and_nobody_is_asked_for_too_much() {
    let scene = Scene::start().await;
    let before = scene.ordered(&scene.boxes[0]).await;
    let check = async |status: u16, code: &str, edit: &dyn Fn(&mut Value)| {
        scene.ask(edit).await.is_problem(status, code);
    };
    check(422, "invalid", &|b| b["reason"] = " ".into()).await;
    check(422, "invalid", &|b| b["rows"] = 0.into()).await;
    check(422, "invalid", &|b| b["for_s"] = 0.into()).await;
    check(422, "invalid", &|b| b["every"] = 0.into()).await;
    check(422, "invalid", &|b| b["why"] = "curiosity".into()).await;
    check(422, "invalid", &|b| b["why"] = "drift".into()).await;
    check(422, "invalid", &|b| b["incident"] = json!(IncidentId::mint([1; 16]))).await;
    check(422, "invalid", &|b| b["score"] = json!({"low": 0.6, "high": 0.4})).await;
    check(422, "invalid", &|b| b["score"] = json!({"low": 0.6, "high": 1e300})).await;
    check(422, "invalid", &|b| {
        b["score"] = json!({"low": 0.4, "high": 0.6});
        b["every"] = 2.into();
    })
    .await;
    check(422, "invalid", &|b| b["site"] = Value::Null).await;
    check(422, "invalid", &|b| b["devices"] = json!([DeviceId::mint([1; 16])])).await;
    check(409, "state", &|b| b["site"] = "icu".into()).await;
    let to = |device: DeviceId| {
        move |b: &mut Value| {
            b["site"] = Value::Null;
            b["devices"] = json!([device]);
        }
    };
    check(409, "state", &to(scene.boxes[2].clone())).await;
    check(404, "not_found", &to(DeviceId::mint([99; 16]))).await;
    check(404, "not_found", &|b| b["bundle"] = "0".repeat(64).into()).await;
    check(409, "state", &|b| b["bundle"] = json!(scene.other.sha256())).await;
    assert_eq!(scene.ordered(&scene.boxes[0]).await, before);

    let one = to(scene.boxes[0].clone());
    for n in 0..16 {
        let asked = scene
            .asked(|b| {
                one(b);
                b["every"] = (n + 1).into();
            })
            .await;
        assert_eq!(asked["every"], n + 1);
    }
    check(409, "state", &one).await;
    assert_eq!(scene.ordered(&scene.boxes[0]).await.capture.len(), 16);
    assert_eq!(scene.ordered(&scene.boxes[1]).await.capture.len(), 0);
    scene.api.stop().await;
}
