-- How often a bundle in the shadow would have answered otherwise than the one that answered, by the day of world time.
create table shadow_days (
    device   text   not null,
    slot     text   not null,
    bundle   text   not null,
    day      bigint not null,
    against  text   not null,
    n        bigint not null,
    differed bigint not null,
    primary key (device, slot, bundle, day, against)
);
create index shadow_days_by_day on shadow_days (day);
