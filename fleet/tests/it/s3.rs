//! Datasets in a bucket: a real S3 server on loopback, whose line can be cut in the middle of an upload.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hyper_util::rt::{TokioExecutor, TokioIo};
use muster_fleet::config::DatasetsConfig;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::datasets::beds;
use crate::desk::Desk;
use crate::server::{Server, config};

const KEY: &str = "AKIATEST";
const SECRET: &str = "no-secret-at-all";

/// A server of S3 in a folder. Once so many parts of uploads have come, it answers nothing any more.
struct Bucket {
    address: SocketAddr,
    folder: TempDir,
    parts: Arc<AtomicI64>,
    _serving: JoinSet<()>,
}

impl Bucket {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("muster")).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        builder.set_auth(s3s::auth::SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let parts = Arc::new(AtomicI64::new(i64::MAX));
        let mut serving = JoinSet::new();
        let left = parts.clone();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (service, left) = (service.clone(), left.clone());
                connections.spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        answer(service.clone(), left.clone(), request)
                    });
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // A connection that the other side drops is its own affair.
                    server.serve_connection(TokioIo::new(socket), service).await.ok();
                });
            }
        });
        Self { address, folder, parts, _serving: serving }
    }

    fn config(&self) -> DatasetsConfig {
        let options = [
            ("aws_endpoint", format!("http://{}", self.address)),
            ("aws_allow_http", "true".to_owned()),
            ("aws_region", "us-east-1".to_owned()),
            ("aws_access_key_id", KEY.to_owned()),
            ("aws_secret_access_key", SECRET.to_owned()),
        ];
        DatasetsConfig {
            store: Some("s3://muster/er".to_owned()),
            options: options.map(|(name, value)| (name.to_owned(), value)).into(),
        }
    }

    /// Objects that stand under a name.
    fn objects(&self) -> usize {
        fn count(folder: &Path) -> usize {
            let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
            entries
                .map(|entry| entry.unwrap().path())
                .map(|path| if path.is_dir() { count(&path) } else { 1 })
                .sum()
        }
        count(&self.folder.path().join("muster/er/sha256"))
    }
}

async fn answer(
    service: S3Service,
    left: Arc<AtomicI64>,
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<s3s::HttpResponse, s3s::HttpError> {
    if request.uri().query().is_some_and(|query| query.contains("partNumber=")) {
        left.fetch_sub(1, Ordering::SeqCst);
    }
    if left.load(Ordering::SeqCst) < 0 {
        let mut response = s3s::HttpResponse::new(s3s::Body::empty());
        *response.status_mut() = hyper::StatusCode::SERVICE_UNAVAILABLE;
        return Ok(response);
    }
    hyper::service::Service::call(&service, request).await
}

#[tokio::test]
async fn versions_are_kept_in_a_bucket_and_nothing_of_one_whose_upload_fails_in_the_middle() {
    let bucket = Bucket::start().await;
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut config = config(data.path());
    config.datasets = bucket.config();
    let server = Server::start_with(config).await;
    let desk = Desk::new(&server.fleet.addresses.http);
    let small = folder.path().join("small.parquet");
    beds(&small, 500, 0.0);
    desk.ok(&["dataset", "add", "er-beds", small.to_str().unwrap()]).await;
    assert_eq!(bucket.objects(), 2, "its file and its profile");

    // Large enough for several parts of 5 MiB.
    let large = folder.path().join("large.parquet");
    beds(&large, 2_000_000, 0.0);
    assert!(large.metadata().unwrap().len() > 11 * 1024 * 1024, "{}", large.metadata().unwrap().len());
    let add = ["dataset", "add", "er-beds", large.to_str().unwrap()];
    bucket.parts.store(1, Ordering::SeqCst);
    let (ok, _, err) = desk.run(&add, &[]).await;
    assert!(!ok && err.contains("error"), "{err}");
    assert_eq!(bucket.objects(), 2, "nothing of it has a name");
    assert_eq!(desk.ok(&["dataset", "list", "-o", "name"]).await, "er-beds@1\n", "and there is no version");

    bucket.parts.store(i64::MAX, Ordering::SeqCst);
    desk.ok(&add).await;
    assert_eq!(bucket.objects(), 4);
    let back = folder.path().join("back");
    desk.ok(&["dataset", "pull", "er-beds@2", "--out", back.to_str().unwrap()]).await;
    assert!(std::fs::read(&large).unwrap() == std::fs::read(back.join("large.parquet")).unwrap());
    server.stop().await;
}
