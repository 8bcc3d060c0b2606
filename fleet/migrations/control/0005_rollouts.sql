-- What decides when a rollout may touch a box: sites' rules, leases, freezes, tags, saved cohorts; what failed where before; and
-- what the engine was told, so that a rollout can be lived through again.

create table sites (
    site     text primary key,
    revision bigint not null,
    document text   not null
);

create table leases (
    id      text primary key,
    device  text,
    site    text,
    owner   text   not null,
    reason  text   not null,
    taken   bigint not null,
    expires bigint not null
);
create index leases_by_device on leases (device, expires);
create index leases_by_site on leases (site, expires);
create index leases_by_expiry on leases (expires, id);

-- One row a scope: a site's name, or nothing for the whole fleet.
create table freezes (
    site    text primary key,
    since   bigint not null,
    actor   text   not null,
    reason  text   not null
);

create table device_tags (
    device   text primary key,
    revision bigint not null,
    document text   not null
);

create table cohorts (
    name     text primary key,
    revision bigint not null,
    filter   text   not null
);

create table bad_bundles (
    device   text   not null,
    sha256   text   not null,
    code     text   not null,
    sentence text   not null,
    at       bigint not null,
    primary key (device, sha256)
);
create index bad_bundles_by_bundle on bad_bundles (sha256, device);

create table rollout_journals (
    rollout   text primary key references rollouts (id),
    entries   bigint  not null,
    bytes     bigint  not null,
    truncated boolean not null
);

create table rollout_journal (
    rollout text   not null references rollouts (id),
    seq     bigint not null,
    entry   text   not null,
    primary key (rollout, seq)
);
