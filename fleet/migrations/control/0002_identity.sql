-- Who may be a member: enrolment files by the digest of their token, devices by their key, and every certificate issued.

create table enrolments (
    id        text primary key,
    token     text   not null unique,
    site      text   not null,
    count     bigint not null,
    uses_left bigint not null,
    approval  text   not null,
    made      bigint not null,
    made_by   text   not null,
    expires   bigint not null,
    cancelled bigint
);
create index enrolments_by_time on enrolments (made, id);

create table identities (
    device      text primary key,
    name        text   not null,
    site        text   not null,
    fingerprint text   not null unique,
    spki        blob   not null,
    former      text,
    state       text   not null,
    reason      text   not null,
    since       bigint not null,
    facts       text   not null,
    enrolment   text,
    enrolled    bigint not null,
    boots       text   not null,
    suspicion   text   not null,
    suspect     boolean not null
);
create index identities_by_time on identities (enrolled, device);
create index identities_by_state on identities (state, enrolled, device);
create unique index identities_by_former on identities (former);
create index identities_by_suspect on identities (suspect);

create table certificates (
    serial      text primary key,
    device      text   not null,
    fingerprint text   not null,
    issued      bigint not null,
    expires     bigint not null,
    revoked     bigint,
    pem         text   not null
);
create index certificates_by_device on certificates (device, expires);
create index certificates_by_key on certificates (fingerprint, expires);
create index certificates_by_expiry on certificates (expires);
