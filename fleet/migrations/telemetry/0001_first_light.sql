-- Telemetry, in a file of its own so that its bulk never makes the control plane wait.

create table positions (
    device     text   not null,
    boot       text   not null,
    stream     text   not null,
    contiguous bigint not null,
    updated    bigint not null,
    primary key (device, boot, stream)
);

create table reports (
    device     text   not null,
    boot       text   not null,
    sequence   bigint not null,
    received   bigint not null,
    world_from bigint not null,
    world_to   bigint not null,
    health     text   not null,
    models     text   not null,
    primary key (device, boot, sequence)
);
create index reports_by_time on reports (device, world_to, received);

create table latest_health (
    device   text primary key,
    received bigint not null,
    health   text   not null
);

create table model_stats (
    device   text   not null,
    slot     text   not null,
    bundle   text   not null,
    hour     bigint not null,
    requests bigint not null,
    row_count bigint not null,
    failures bigint not null,
    refused  bigint not null,
    latency  text   not null,
    primary key (device, slot, bundle, hour)
);
create index model_stats_by_bundle on model_stats (bundle, hour);

create table windows (
    device     text   not null,
    slot       text   not null,
    bundle     text   not null,
    world_from bigint not null,
    world_to   bigint not null,
    panes      bigint not null,
    updated    bigint not null,
    counts     blob   not null,
    primary key (device, slot, bundle, world_from)
);
create index windows_by_bundle on windows (bundle, world_from);
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
);
create index label_days_by_bundle on label_days (bundle, day);
