//! Every bound of the wire, in one table. A value beyond its bound is refused with the field's name; nothing is cut off
//! silently.

/// Largest MQTT packet either side accepts, bytes.
pub const PACKET_BYTES_MAX: usize = 1024 * 1024;
/// Largest JSON message (hello, status, state, event, want, ack), bytes.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Largest binary report, bytes.
pub const REPORT_BYTES_MAX: usize = 512 * 1024;
/// Payload of one chunk, bytes. The content address does not depend on it.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// Header before a chunk's payload, bytes.
pub const CHUNK_HEADER_BYTES: usize = 32;
/// Chunks a device has outstanding at most.
pub const CHUNK_WINDOW_MAX: u32 = 8;
/// Chunk ranges in one want.
pub const WANT_RANGES_MAX: usize = 8;
/// Bytes that the fleet keeps in flight to one device.
pub const IN_FLIGHT_BYTES_PER_DEVICE: usize = CHUNK_WINDOW_MAX as usize * CHUNK_BYTES;

/// A bundle manifest, bytes.
pub const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;
/// Files in a bundle.
pub const BUNDLE_FILES_MAX: usize = 4096;
/// All files of a bundle together, bytes.
pub const BUNDLE_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// A file's path inside a bundle, bytes.
pub const BUNDLE_PATH_BYTES_MAX: usize = 256;
/// Inputs, outputs and variants a manifest may name.
pub const TENSORS_MAX: usize = 64;
pub const VARIANTS_MAX: usize = 32;
/// Files beside a variant's own, and CPU features that it may demand.
pub const VARIANT_FILES_MAX: usize = 64;
pub const CPU_FLAGS_MAX: usize = 64;
/// Columns of one tensor that a manifest may name.
pub const FEATURES_MAX: usize = 4096;
/// Monitored streams of a bundle.
pub const STREAMS_MAX: usize = 1024;
/// A model's threshold of categories in one stream.
pub const CATEGORIES_MAX: usize = 64;

/// How often a box asks the golden request where it judges a latency.
pub const GOLDEN_RUNS: usize = 20;
/// All answers to it together, bytes: whoever builds a bundle is told, instead of every box.
pub const GOLDEN_ANSWERS_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What a box grants a self-test of the processor, loading included, seconds.
pub const SELF_TEST_CPU_S_MAX: u64 = 60;

/// One `N.root.json`, bytes.
pub const ROOT_BYTES_MAX: usize = 512 * 1024;
/// Roots followed in one refresh.
pub const ROOT_STEPS_MAX: usize = 32;
/// `timestamp.json`, bytes.
pub const TIMESTAMP_BYTES_MAX: usize = 16 * 1024;
/// `snapshot.json` and each targets file, bytes: what fits one MQTT packet.
pub const TARGETS_BYTES_MAX: usize = PACKET_BYTES_MAX - 1024;
/// One order, bytes.
pub const ORDER_BYTES_MAX: usize = 64 * 1024;
/// Delegated targets roles.
pub const DELEGATIONS_MAX: usize = 32;
/// Patterns of paths in one delegation.
pub const PATTERNS_MAX: usize = 32;

/// Hardware classes that one catalogue entry may name.
pub const HARDWARE_CLASSES_MAX: usize = 32;
/// Bundles that one catalogue may revoke.
pub const REVOCATIONS_MAX: usize = 1024;

/// A certificate signing request in PEM, bytes.
pub const CSR_BYTES_MAX: usize = 8 * 1024;
/// A certificate chain in PEM, bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;
/// An enrolment file, bytes: a root and a little more.
pub const ENROLMENT_BYTES_MAX: usize = ROOT_BYTES_MAX + 4 * 1024;

/// Slots on one device; and in one report, pairs of bundles of which one was in the shadow.
pub const SLOTS_MAX: usize = 16;
/// Things that a device says of itself as a whole in one state.
pub const NOTICES_MAX: usize = 8;
/// Leases that a box's own applications hold at once.
pub const LOCAL_LEASES_MAX: usize = 8;
/// The longest time for which an application may hold its box, seconds: a day. Whoever needs longer asks again.
pub const LOCAL_LEASE_SECONDS_MAX: u32 = 24 * 60 * 60;
/// Why an application holds its box, bytes.
pub const LEASE_REASON_BYTES_MAX: usize = 200;
/// Who gave or withdrew consent at a box, bytes.
pub const CONSENT_BY_BYTES_MAX: usize = 64;
/// Captures that one order asks for.
pub const CAPTURES_MAX: usize = 16;
/// Rows that one capture asks for.
pub const CAPTURE_ROWS_MAX: u32 = 1_000_000;
/// A free sentence (reason, detail), bytes. Written by our own code, but for a lease's reason and who gave consent: those
/// are the only words of others that leave a box, and have bounds of their own.
pub const SENTENCE_BYTES_MAX: usize = 512;
/// Panes in one report.
pub const PANES_PER_REPORT_MAX: usize = 64;
/// Blocks of matured labels in one report.
pub const LABEL_BLOCKS_PER_REPORT_MAX: usize = 64;
/// Unacknowledged entries a device's spool holds: telemetry is dropped oldest first beyond it.
pub const SPOOL_REPORTS_MAX: usize = 4096;
pub const SPOOL_EVENTS_MAX: usize = 4096;

/// Cuts a sentence at a character boundary so that it fits [`SENTENCE_BYTES_MAX`].
pub fn sentence(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > SENTENCE_BYTES_MAX {
        let mut end = SENTENCE_BYTES_MAX - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_fits_a_packet() {
        const { assert!(CHUNK_BYTES + CHUNK_HEADER_BYTES + 1024 <= PACKET_BYTES_MAX) };
        const { assert!(REPORT_BYTES_MAX + 1024 <= PACKET_BYTES_MAX) };
    }

    #[test]
    fn long_sentences_end_in_an_ellipsis() {
        assert_eq!(sentence("short"), "short");
        let cut = sentence("ü".repeat(400));
        assert!(cut.len() <= SENTENCE_BYTES_MAX && cut.ends_with('…'));
    }
}
