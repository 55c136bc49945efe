{% set page = "type in ('page', 'screen')" %}
{% set path = var('nextmove_page_path') %}

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
        {{ nextmove.windowed_counts('web') }}
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
            partition by customer_id order by occurred_at desc, {{ nextmove.in_byte_order('message_id') }} desc
        ) as recency
    from events
    where {{ path.where }}
),

last_pages as (
    select customer_id, page_class as last_page_class
    from classed_pages
    where recency = 1
),

paths as (
    select
        customer_id,
        {{ dbt.listagg('page_class', "'>'", 'order by occurred_at, ' ~ nextmove.in_byte_order('message_id')) }} as {{ path.name }}
    from classed_pages
    where occurred_at > {{ nextmove.before_as_of(path.hours) }}
    group by 1
)

select counts.*, last_pages.last_page_class, paths.{{ path.name }}
from counts
left join last_pages on counts.customer_id = last_pages.customer_id
left join paths on counts.customer_id = paths.customer_id
