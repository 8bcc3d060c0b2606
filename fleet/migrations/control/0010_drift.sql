-- What the eye for drift remembers: of each box and slot, and what is normal at each site.

drop table alarms;

create table watches (
    bundle   text not null,
    device   text not null,
    slot     text not null,
    document text not null,
    primary key (bundle, device, slot)
);

create table baselines (
    bundle   text not null,
    site     text not null,
    document text not null,
    primary key (bundle, site)
);
