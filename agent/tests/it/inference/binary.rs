//! Tensors in binary form, both ways, over a real socket and through a real runtime.

use std::io::Write as _;

use serde_json::{Value, json};

use super::{Box, logistic, whole};

const JSON_BYTES: &str = "inference-header-content-length";

struct Answer {
    status: u16,
    json: Value,
    tensors: Vec<u8>,
}

async fn ask(agent: &Box, json: &Value, tensors: &[u8]) -> Answer {
    let json = json.to_string();
    let body = [json.as_bytes(), tensors].concat();
    send(agent, &[(JSON_BYTES, &json.len().to_string())], body).await
}

async fn send(agent: &Box, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let mut request = agent.http.post(format!("{}/v2/models/m/infer", agent.url)).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let at = response.headers().get(JSON_BYTES).map(|value| value.to_str().unwrap().parse().unwrap());
    let body = response.bytes().await.unwrap();
    let (json, tensors) = body.split_at(at.unwrap_or(body.len()));
    Answer { status, json: serde_json::from_slice(json).unwrap(), tensors: tensors.to_vec() }
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[tokio::test]
async fn binary_in_and_out() {
    let agent = Box::start().await;
    agent.slots.activate(&Box::slot(), logistic("1", "logistic.onnx"));
    let x =
        json!({ "name": "x", "datatype": "FP32", "shape": [2, 4], "parameters": { "binary_data_size": 32 } });
    let rows = floats(&[0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 0.5]);
    let request = json!({ "inputs": [x], "parameters": { "binary_data_output": true } });
    let binary = ask(&agent, &request, &rows).await;
    assert_eq!(binary.status, 200, "{}", binary.json);
    let parameters = json!({ "binary_data_size": 8 });
    assert_eq!(binary.json["outputs"][0]["parameters"], parameters);
    assert_eq!(binary.json["outputs"][0].get("data"), None);

    let plain = ask(&agent, &json!({ "inputs": [x] }), &rows).await;
    let plain: Vec<f32> = serde_json::from_value(plain.json["outputs"][0]["data"].clone()).unwrap();
    assert_eq!(binary.tensors, floats(&plain));
    assert!((plain[0] - 0.524_979).abs() < 1e-5, "{plain:?}");

    // One tensor and nothing else.
    let raw = send(&agent, &[(JSON_BYTES, "0")], rows.clone()).await;
    assert_eq!((raw.status, &raw.tensors), (200, &binary.tensors));

    let refused = ask(&agent, &json!({ "inputs": [x] }), &rows[1..]).await;
    assert_eq!(refused.status, 400);
    assert!(refused.json["error"].as_str().unwrap().contains("31 bytes of tensors"), "{}", refused.json);
    for header in ["-1", "x", "99999"] {
        let refused = send(&agent, &[(JSON_BYTES, header)], rows.clone()).await;
        assert!(refused.status == 400 && refused.json["error"].is_string(), "{header}: {}", refused.json);
    }
    agent.stop().await;
}

#[tokio::test]
async fn every_element_type_goes_through_the_runtime_and_back() {
    let agent = Box::start().await;
    agent.slots.activate(&Box::slot(), whole("echo.onnx"));
    let (_, model) = agent.get("/v2/models/m").await;
    let types = [
        "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16",
        "FP32", "FP64",
    ];
    let sizes = [1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 2, 4, 8];
    let listed: Vec<&str> =
        model["inputs"].as_array().unwrap().iter().map(|i| i["datatype"].as_str().unwrap()).collect();
    assert_eq!(listed, types);
    let mut tensors = Vec::new();
    let inputs: Vec<Value> = types
        .iter()
        .zip(sizes)
        .map(|(datatype, size)| {
            // One is a one in each of these types, and so is a float that begins with two zero bytes.
            let one = [1_u8, 0, 0, 0, 0, 0, 0, 0];
            tensors.extend(one[..size].repeat(2));
            json!({ "name": datatype.to_lowercase(), "datatype": datatype, "shape": [1, 2], "parameters": { "binary_data_size": size * 2 } })
        })
        .collect();
    let request = json!({ "inputs": inputs, "parameters": { "binary_data_output": true } });
    let answer = ask(&agent, &request, &tensors).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert_eq!(answer.tensors.len(), tensors.len());
    // Denormal floats may be flushed to zero; whole numbers may not be touched.
    let whole_bytes = 2 * sizes[..9].iter().sum::<usize>();
    assert_eq!(answer.tensors[..whole_bytes], tensors[..whole_bytes]);

    let inputs: Vec<Value> = types
        .iter()
        .map(|datatype| {
            let data = if *datatype == "BOOL" { json!([true, false]) } else { json!([2, 1]) };
            json!({ "name": datatype.to_lowercase(), "datatype": datatype, "shape": [1, 2], "data": data })
        })
        .collect();
    let answer = ask(&agent, &json!({ "inputs": inputs }), &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    for (output, datatype) in answer.json["outputs"].as_array().unwrap().iter().zip(types) {
        let expect = match datatype {
            "BOOL" => json!([true, false]),
            "FP16" | "BF16" | "FP32" | "FP64" => json!([2.0, 1.0]),
            _ => json!([2, 1]),
        };
        assert_eq!((&output["data"], &output["datatype"]), (&expect, &json!(datatype)));
    }
    agent.stop().await;
}

#[tokio::test]
async fn texts_go_through_the_runtime_and_back() {
    let agent = Box::start().await;
    agent.slots.activate(&Box::slot(), whole("text.onnx"));
    let t = |more: Value| {
        let mut t = json!({ "name": "t", "datatype": "BYTES", "shape": [2] });
        t.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "inputs": [t] })
    };
    let answer = ask(&agent, &t(json!({ "data": ["grün", ""] })), &[]).await;
    assert_eq!((answer.status, &answer.json["outputs"][0]["data"]), (200, &json!(["grün", ""])));
    let bytes = b"\x02\0\0\0ab\x01\0\0\0c";
    let mut request = t(json!({ "parameters": { "binary_data_size": bytes.len() } }));
    request["parameters"] = json!({ "binary_data_output": true });
    let answer = ask(&agent, &request, bytes).await;
    assert_eq!((answer.status, answer.tensors.as_slice()), (200, &bytes[..]));
    for (data, expect) in [(json!(["a\0b", ""]), "without zeros"), (json!([1, 2]), "not a BYTES")] {
        let refused = ask(&agent, &t(json!({ "data": data })), &[]).await;
        assert!(
            refused.status == 400 && refused.json["error"].as_str().unwrap().contains(expect),
            "{}",
            refused.json
        );
    }
    agent.stop().await;
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn compressed_in_and_out() {
    let agent = Box::start().await;
    agent.slots.activate(&Box::slot(), logistic("1", "logistic.onnx"));
    let many = super::ask("", 4, &[0.0; 4096]);
    let plain = send(&agent, &[], many.clone().into_bytes()).await;
    for (encoding, body) in [("gzip", gzip(many.as_bytes())), ("deflate", deflate(many.as_bytes()))] {
        let answer = send(&agent, &[("content-encoding", encoding)], body).await;
        assert_eq!((answer.status, &answer.json), (200, &plain.json), "{encoding}");
    }
    let request = agent.http.post(format!("{}/v2/models/m/infer", agent.url));
    let response = request.header("accept-encoding", "gzip").body(many.clone()).send().await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let mut inflated = Vec::new();
    let body = response.bytes().await.unwrap();
    std::io::copy(&mut flate2::read::GzDecoder::new(&body[..]), &mut inflated).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&inflated).unwrap(), plain.json);

    // 64 KiB fit; a thousand times as much does not, though it was sent in 64 KiB.
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 70_000);
    assert_eq!(send(&agent, &[("content-encoding", "gzip")], bomb[..64_000].to_vec()).await.status, 413);
    assert_eq!(send(&agent, &[("content-encoding", "gzip")], many.clone().into_bytes()).await.status, 400);
    assert_eq!(send(&agent, &[("content-encoding", "br")], many.into_bytes()).await.status, 415);
    agent.stop().await;
}
