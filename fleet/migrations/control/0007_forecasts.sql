-- What was foreseen of each rollout when it began, to be compared with what came.

create table rollout_forecasts (
    rollout  text primary key references rollouts (id),
    document text not null
);
