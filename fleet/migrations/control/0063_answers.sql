-- Answers to requests that must not be done twice, by who asked and by their key.

create table answers (
    caller  text   not null,
    key     text   not null,
    request text   not null,
    at      bigint not null,
    status  bigint,
    headers text   not null default '{}',
    body    blob,
    primary key (caller, key)
);
create index answers_by_time on answers (at);
