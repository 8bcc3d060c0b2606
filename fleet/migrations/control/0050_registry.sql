-- What people call a model's versions, and what they write on them.

create table aliases (
    model    text   not null,
    name     text   not null,
    revision bigint not null,
    bundle   text   not null references bundles (sha256),
    at       bigint not null,
    actor    text   not null,
    reason   text   not null,
    primary key (model, name)
);
create index aliases_by_bundle on aliases (bundle);

create table notes (
    bundle   text primary key references bundles (sha256),
    revision bigint not null,
    document text   not null
);
