{% set page = "type in ('page', 'screen')" %}

with events as (
    select * from {{ ref('int_events__web') }}
),

counts as (
    select
        customer_id,
        min(case when event = 'Signed Up' then occurred_at end) as signed_up_at,
        max(case when {{ page }} then occurred_at end) as last_visit_at,
        max(case when event = 'Push Token Registered' then 1 else 0 end) as push_tokens,
        sum(case when event = 'Onboarding Step Completed' then 1 else 0 end) as onboarding_steps,
        {{ nextmove.count_within('occurred_at', 720, "event = 'Feature Used'") }} as features_used_30d,
        {{ nextmove.count_within('occurred_at', 24, page) }} as page_views_24h,
        {{ nextmove.count_within('occurred_at', 24, page ~ " and page_class = 'price'") }} as price_visits_24h,
        {{ nextmove.count_within('occurred_at', 168, page ~ " and page_class = 'price'") }} as price_visits_7d,
        {{ nextmove.count_within('occurred_at', 24, page ~ " and page_class = 'cart'") }} as cart_visits_24h
    from events
    group by 1
),

classed_pages as (
    select
        customer_id,
        page_class,
        occurred_at,
        message_id,
        row_number() over (
            partition by customer_id order by occurred_at desc, message_id desc
        ) as recency
    from events
    where {{ page }} and page_class is not null
),

last_pages as (
    select customer_id, page_class as last_page_class
    from classed_pages
    where recency = 1
),

paths as (
    select
        customer_id,
        {{ dbt.listagg('page_class', "'>'", 'order by occurred_at, message_id') }} as pages_24h
    from classed_pages
    where occurred_at > {{ nextmove.before_as_of(24) }}
    group by 1
)

select counts.*, last_pages.last_page_class, paths.pages_24h
from counts
left join last_pages on counts.customer_id = last_pages.customer_id
left join paths on counts.customer_id = paths.customer_id
