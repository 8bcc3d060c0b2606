-- Events that a webhook would not take, for people to look at and send again.

create table undelivered (
    hook   text    not null,
    -- Of the log.
    entry  bigint  not null,
    at     bigint  not null,
    why    text    not null,
    -- Whether a person wants it sent again.
    again  boolean not null,
    primary key (hook, entry)
);
