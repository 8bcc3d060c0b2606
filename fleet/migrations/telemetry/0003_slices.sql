-- Reports and rollups stand in tables of one span of time each, which code makes and drops (store/slices.rs).

-- Bounded at 500 a device, in columns that nothing reads any more; what they became stands in the other tables.
drop table reports;

-- A boot of a box, by a number that keeps the rows of its reports narrow. `box` is the same for all boots of a box.
create table sources (
    id         bigint primary key,
    box        bigint not null,
    device     text   not null,
    boot       text   not null,
    -- Reports up to this one are safe; those above it are found in the slices.
    contiguous bigint not null,
    -- Reports that the box gave up before they were here, and when the first of them was missed.
    lost       bigint not null,
    lost_since bigint,
    updated    bigint not null,
    unique (device, boot)
);
insert into sources (id, box, device, boot, contiguous, lost, lost_since, updated)
    select row_number() over (order by device, boot), 0, device, boot, contiguous, 0, null, updated from positions;
update sources set box = (select min(first.id) from sources first where first.device = sources.device);
drop table positions;

-- How a box was when its reports were last added up: for those that have been silent for longer than reports are kept.
create table box_health (
    box      bigint primary key,
    received bigint not null,
    health   text   not null
);
insert into box_health (box, received, health)
    select distinct sources.box, latest_health.received, latest_health.health
    from latest_health join sources on sources.device = latest_health.device;
drop table latest_health;

-- The tables of spans that exist, and what is in them.
create table slices (
    kind      text   not null,
    starts    bigint not null,
    row_count bigint not null,
    bytes     bigint not null,
    -- The highest report in it; 0 for rollups.
    last_id   bigint not null,
    primary key (kind, starts)
);

-- What was dropped since the beginning, and how much of it before its age because there was too much.
create table dropped (
    kind      text primary key,
    row_count bigint not null,
    bytes     bigint not null,
    early     bigint not null,
    last      bigint not null
);

-- `rolled`: reports up to this one are in the rollups. `trimmed`: when old sums were last looked for.
create table marks (
    name  text primary key,
    value bigint not null
);

-- Latency in columns, so that a report's counts are added by one statement that reads nothing.
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
);
insert into hour_stats select device, slot, bundle, hour, requests, row_count, failures, refused,
    coalesce(json_extract(latency, '$[0]'), 0), coalesce(json_extract(latency, '$[1]'), 0),
    coalesce(json_extract(latency, '$[2]'), 0), coalesce(json_extract(latency, '$[3]'), 0),
    coalesce(json_extract(latency, '$[4]'), 0), coalesce(json_extract(latency, '$[5]'), 0),
    coalesce(json_extract(latency, '$[6]'), 0), coalesce(json_extract(latency, '$[7]'), 0),
    coalesce(json_extract(latency, '$[8]'), 0), coalesce(json_extract(latency, '$[9]'), 0),
    coalesce(json_extract(latency, '$[10]'), 0), coalesce(json_extract(latency, '$[11]'), 0),
    coalesce(json_extract(latency, '$[12]'), 0), coalesce(json_extract(latency, '$[13]'), 0),
    coalesce(json_extract(latency, '$[14]'), 0), coalesce(json_extract(latency, '$[15]'), 0)
    from model_stats;
drop table model_stats;
create index hour_stats_by_bundle on hour_stats (bundle, hour);
create index hour_stats_by_hour on hour_stats (hour);
create index label_days_by_day on label_days (day);
create index health_hours_by_hour on health_hours (hour);
