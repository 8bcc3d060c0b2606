//! Stories of the fleet server: the real server, the real broker in it or a real Mosquitto, real MQTT
//! clients, on loopback and free ports.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a story that goes wrong should stop, and say where")]

mod audit;
#[path = "../../../agent/tests/it/board.rs"]
mod board;
#[path = "../../benches/ingest/boxes.rs"]
mod boxes;
mod broker;
mod builder;
mod ceremonies;
mod cli;
mod completing;
mod contract;
mod corpus;
mod datasets;
mod delivery;
mod desk;
mod device;
mod doctor;
mod door;
mod drift;
mod fake_fleet;
mod figures;
mod flight;
mod glances;
mod hand_out;
mod heavy;
mod help;
mod http;
mod ingest;
mod intake;
mod interop;
mod label_studio;
mod mail;
mod manual;
mod member;
mod mosquitto;
mod oci;
mod offline;
mod oms;
mod onnx;
mod openlineage;
mod outgrown;
mod pipe;
mod postgres;
mod publisher;
mod publishing;
mod releases;
mod restart;
mod roster;
mod s3;
mod schemas;
mod server;
mod shadow;
mod store;
mod telemetry;
mod trainers;
mod variants;
mod webhooks;
