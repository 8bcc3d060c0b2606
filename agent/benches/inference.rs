//! What asking over a socket costs beside asking the model in this process: `make bench-inference`.
//!
//! One client that asks again and again, as a scanner or a camera does. The model does next to nothing, so that what is
//! left is the way: the same 602 kB image in and out, and a row of four numbers. Goals: 0.3 ms and 0.3 ms a megabyte, at
//! the median, gRPC and REST alike.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people at a terminal")]

#[path = "inference/house.rs"]
mod house;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use house::{House, rest, workspace};
use muster_agent::oip::{NamedTensor, Tensor, Values};
use tokio::time::Instant;

const WARM: usize = 50;
const ROUNDS: usize = 400;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let house = House::open().await;
    let fixtures = workspace().join("agent/tests/fixtures");
    println!("{:<28} {:>9} {:>9} {:>9}", "", "p50 ms", "p95 ms", "mean ms");
    let mut version = 0;
    for (file, name, shape) in
        [("logistic.onnx", "one row", vec![1, 4]), ("image.onnx", "image of 602 kB", vec![1, 3, 224, 224])]
    {
        version += 1;
        let model = house.swap_in(&fixtures.join(file), version).await;
        let count = shape.iter().product::<usize>();
        let inputs: Arc<[NamedTensor]> = Arc::new([NamedTensor {
            name: "x".to_owned(),
            tensor: Tensor { shape: shape.clone(), values: Values::Fp32(vec![0.5; count]) },
        }]);
        let run = async || drop(model.infer(Arc::clone(&inputs), None).await.unwrap());
        let alone = measure(&format!("{name}: in this process"), run).await;
        let url = format!("http://{}", house.server.addr);
        let (http1, http2) =
            (reqwest::Client::new(), reqwest::Client::builder().http2_prior_knowledge().build().unwrap());
        let (json_bytes, body) = rest(&shape);
        let rest = async || {
            let request = http1.post(format!("{url}/v2/models/m/infer")).body(body.clone());
            let answer = request.header("Inference-Header-Content-Length", json_bytes).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            assert!(answer.bytes().await.unwrap().len() > 4);
        };
        let rest = measure(&format!("{name}: REST, binary"), rest).await;
        let message = grpc(&shape, &body[json_bytes..]);
        let grpc = async || {
            let request =
                http2.post(format!("{url}/inference.GRPCInferenceService/ModelInfer")).body(message.clone());
            let request = request.header("content-type", "application/grpc").header("te", "trailers");
            let answer = request.send().await.unwrap();
            assert!(answer.bytes().await.unwrap().len() > 9, "refused");
        };
        let grpc = measure(&format!("{name}: gRPC, raw"), grpc).await;
        for (way, took) in [("REST", rest), ("gRPC", grpc)] {
            println!(
                "{:<28} {:>9.3}",
                format!("{name}: {way} costs"),
                (took.saturating_sub(alone)).as_secs_f64() * 1e3
            );
        }
    }
    house.close().await;
}

/// The median.
async fn measure(what: &str, mut ask: impl AsyncFnMut()) -> Duration {
    for _ in 0..WARM {
        ask().await;
    }
    let mut took = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        ask().await;
        took.push(begin.elapsed());
    }
    took.sort_unstable();
    let ms = |span: Duration| span.as_secs_f64() * 1e3;
    let mean = took.iter().sum::<Duration>() / u32::try_from(ROUNDS).unwrap();
    println!(
        "{what:<28} {:>9.3} {:>9.3} {:>9.3}",
        ms(took[ROUNDS / 2]),
        ms(took[ROUNDS * 95 / 100]),
        ms(mean)
    );
    took[ROUNDS / 2]
}

/// A `ModelInferRequest` in its frame, field by field.
fn grpc(shape: &[usize], tensor: &[u8]) -> Bytes {
    fn varint(mut value: usize, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        out.push(u8::try_from(value).unwrap());
    }
    fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
        out.push(number << 3 | 2);
        varint(bytes.len(), out);
        out.extend_from_slice(bytes);
    }
    let (mut lengths, mut input, mut message) = (Vec::new(), Vec::new(), Vec::new());
    for &length in shape {
        varint(length, &mut lengths);
    }
    field(1, b"x", &mut input);
    field(2, b"FP32", &mut input);
    field(3, &lengths, &mut input);
    field(1, b"m", &mut message);
    field(5, &input, &mut message);
    field(7, tensor, &mut message);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0_u8][..], &length, &message].concat().into()
}
