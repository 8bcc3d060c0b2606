-- A box's health by the hour of world time, so that a gate can lay what was before a change beside what came since.

create table health_hours (
    device        text   not null,
    hour          bigint not null,
    reports       bigint not null,
    memory_sum    double precision not null,
    temperatures  bigint not null,
    temperature_sum double precision not null,
    primary key (device, hour)
);
