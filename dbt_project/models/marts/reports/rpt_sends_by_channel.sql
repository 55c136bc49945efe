with attempts as (
    select
        deliveries.*,
        row_number() over (
            partition by send_key order by attempt desc, attempted_at desc
        ) as recency
    from {{ ref('fct_deliveries') }} as deliveries
)

select
    cast(attempted_at as date) as sent_date,
    agent,
    channel,
    destination,
    status,
    count(*) as sends
from attempts
where recency = 1
group by 1, 2, 3, 4, 5
