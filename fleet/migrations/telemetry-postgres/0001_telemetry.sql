-- What migrations/telemetry has come to, in PostgreSQL's types. Both end with the same tables and columns: a test compares them.

-- A boot of a box, by a number that keeps the rows of its reports narrow. `box` is the same for all boots of a box.
create table sources (
    id         bigint primary key,
    box        bigint not null,
    device     text   not null,
    boot       text   not null,
    contiguous bigint not null,
    lost       bigint not null,
    lost_since bigint,
    updated    bigint not null,
    unique (device, boot)
);

create table box_health (
    box      bigint primary key,
    received bigint not null,
    health   text   not null
);

-- The tables of spans that exist, and what is in them.
create table slices (
    kind      text   not null,
    starts    bigint not null,
    row_count bigint not null,
    bytes     bigint not null,
    last_id   bigint not null,
    primary key (kind, starts)
);

create table dropped (
    kind      text primary key,
    row_count bigint not null,
    bytes     bigint not null,
    early     bigint not null,
    last      bigint not null
);

create table marks (
    name  text primary key,
    value bigint not null
);

-- Rows of sums are written over and over: with room left in its page a new version of a row needs no new entry in any index.
create table hour_stats (
    device   text   not null,
    slot     text   not null,
    bundle   text   not null,
    hour     bigint not null,
    requests bigint not null,
    row_count bigint not null,
    failures bigint not null,
    refused  bigint not null,
    l0 bigint not null, l1 bigint not null, l2 bigint not null, l3 bigint not null,
    l4 bigint not null, l5 bigint not null, l6 bigint not null, l7 bigint not null,
    l8 bigint not null, l9 bigint not null, l10 bigint not null, l11 bigint not null,
    l12 bigint not null, l13 bigint not null, l14 bigint not null, l15 bigint not null,
    primary key (device, slot, bundle, hour)
) with (fillfactor = 70);
create index hour_stats_by_bundle on hour_stats (bundle, hour);
create index hour_stats_by_hour on hour_stats (hour);

create table health_hours (
    device        text   not null,
    hour          bigint not null,
    reports       bigint not null,
    memory_sum    double precision not null,
    temperatures  bigint not null,
    temperature_sum double precision not null,
    primary key (device, hour)
) with (fillfactor = 70);
create index health_hours_by_hour on health_hours (hour);

create table windows (
    device     text   not null,
    slot       text   not null,
    bundle     text   not null,
    world_from bigint not null,
    world_to   bigint not null,
    panes      bigint not null,
    updated    bigint not null,
    counts     bytea  not null,
    primary key (device, slot, bundle, world_from)
);
-- With all of the key in it, so that looking one up by this index is as good as by the key: until the table was analysed
-- PostgreSQL cannot tell which of them is the better one.
create index windows_by_bundle on windows (bundle, world_from, device, slot);
create index windows_by_update on windows (updated);

create table label_days (
    device           text   not null,
    slot             text   not null,
    bundle           text   not null,
    day              bigint not null,
    against          text   not null,
    n                bigint not null,
    label_sum        double precision not null,
    prediction_sum   double precision not null,
    loss_sum         double precision not null,
    loss_sum_sq      double precision not null,
    pairs            bigint not null,
    against_loss_sum double precision not null,
    diff_sum         double precision not null,
    diff_sum_sq      double precision not null,
    primary key (device, slot, bundle, day, against)
) with (fillfactor = 70);
create index label_days_by_bundle on label_days (bundle, day);
create index label_days_by_day on label_days (day);
