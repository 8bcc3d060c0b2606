-- Control plane. Ids are text, times are milliseconds since 1970, documents are JSON text that only the code looks into.
-- What is asked for gets a column of its own.

create table meta (
    key   text primary key,
    value text not null
);

create table devices (
    id             text primary key,
    name           text    not null,
    site           text    not null,
    agent_version  text    not null,
    capabilities   text    not null,
    first_seen     bigint  not null,
    last_seen      bigint  not null,
    presence       text    not null,
    presence_since bigint  not null,
    boot           text    not null,
    connection     bigint  not null,
    order_applied  bigint  not null,
    state          text
);
create unique index devices_by_name on devices (site, name, id);

create table positions (
    device     text   not null,
    boot       text   not null,
    stream     text   not null,
    contiguous bigint not null,
    updated    bigint not null,
    primary key (device, boot, stream)
);

create table events (
    device   text   not null,
    boot     text   not null,
    sequence bigint not null,
    at       bigint not null,
    received bigint not null,
    kind     text   not null,
    sentence text   not null,
    body     text   not null,
    primary key (device, boot, sequence)
);
create index events_by_time on events (device, received, sequence);

create table bundles (
    sha256     text primary key,
    path       text    not null,
    model      text    not null,
    version    text    not null,
    created    bigint  not null,
    accepted   bigint  not null,
    size_bytes bigint  not null,
    manifest   text    not null,
    reference  text,
    catalogued boolean not null
);
create index bundles_by_model on bundles (model, accepted, sha256);
create index bundles_by_path on bundles (path);

create table bundle_files (
    bundle text   not null references bundles (sha256),
    path   text   not null,
    sha256 text   not null,
    length bigint not null,
    primary key (bundle, path)
);
create index bundle_files_by_blob on bundle_files (sha256);

create table trust_files (
    name      text primary key,
    version   bigint not null,
    expires   bigint,
    published bigint not null,
    bytes     blob   not null
);

create table orders (
    device  text primary key,
    version bigint not null,
    issued  bigint not null,
    expires bigint not null,
    wants   text   not null,
    bytes   blob   not null
);
create index orders_by_expiry on orders (expires);

create table rollouts (
    id       text primary key,
    revision bigint not null,
    model    text   not null,
    phase    text   not null,
    created  bigint not null,
    document text   not null
);
create index rollouts_by_time on rollouts (created, id);
create index rollouts_by_phase on rollouts (phase);

create table rollout_devices (
    rollout  text not null references rollouts (id),
    device   text not null,
    document text not null,
    primary key (rollout, device)
);

create table incidents (
    id       text primary key,
    revision bigint not null,
    model    text   not null,
    bundle   text   not null,
    state    text   not null,
    opened   bigint not null,
    document text   not null
);
create index incidents_by_time on incidents (opened, id);
create index incidents_by_state on incidents (state, model);

create table alarms (
    bundle   text not null,
    device   text not null,
    stream   text not null,
    document text not null,
    primary key (bundle, device, stream)
);

create table policies (
    model    text primary key,
    revision bigint not null,
    document text   not null
);

create table triggers (
    id       text primary key,
    model    text   not null,
    at       bigint not null,
    document text   not null
);
create index triggers_by_time on triggers (at, id);

create table runs (
    id          text primary key,
    revision    bigint not null,
    model       text   not null,
    state       text   not null,
    builder     text,
    lease_until bigint,
    created     bigint not null,
    document    text   not null
);
create index runs_by_time on runs (created, id);
create index runs_by_state on runs (state, model, created);

create table run_logs (
    run  text   not null references runs (id),
    line bigint not null,
    at   bigint not null,
    text text   not null,
    primary key (run, line)
);

create table log (
    id       integer primary key autoincrement,
    at       bigint not null,
    world_at bigint not null,
    kind     text   not null,
    subject  text   not null,
    sentence text   not null,
    actor    text   not null
);
create index log_by_subject on log (subject, id);

create table outbox (
    seq     integer primary key autoincrement,
    topic   text    not null,
    payload blob    not null,
    retain  boolean not null,
    qos     bigint  not null
);
