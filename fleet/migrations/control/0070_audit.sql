-- The link of each entry in the chain (SHA-256, see `audit.rs`). Entries of before are linked when the server starts.
alter table log add column link blob;
