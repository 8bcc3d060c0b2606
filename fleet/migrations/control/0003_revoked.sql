-- What the signed catalogue says of a bundle that must not run any more: its reason and what boxes do, as JSON.
alter table bundles add column revoked text;
