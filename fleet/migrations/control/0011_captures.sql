-- Rows that sites are asked to keep for themselves, and of which boxes. The rows themselves never come here.

create table captures (
    id        text primary key,
    asked     bigint not null,
    expires   bigint not null,
    cancelled bigint,
    document  text not null
);

create index captures_by_age on captures (asked, id);

create table capture_devices (
    device  text not null,
    capture text not null,
    primary key (device, capture)
);

create index capture_devices_of on capture_devices (capture, device);

-- What an order asks for beside what it wants to run.
alter table orders add column captures text not null default '[]';
