{% set human_click = "event_type = 'click' and not is_machine" %}
{% set velocity = var('nextmove_engagement_velocity') %}

with events as (
    select * from {{ ref('int_events__messages') }}
),

counts as (
    select
        customer_id,
        {{ nextmove.windowed_counts('messages') }},
        {% for channel in ['email', 'push', 'sms'] %}
        sum(case when {{ human_click }} and channel = '{{ channel }}' then 1 else 0 end) as {{ channel }}_clicks,
        -- Messages of other systems; our own are counted from their receipts.
        sum(case
            when event_type = 'delivered' and decision_id is null and channel = '{{ channel }}' then 1
            else 0
        end) as {{ channel }}_other_sends{{ ',' if not loop.last }}
        {% endfor %}
    from events
    group by 1
),

clicked_channels as (
    select customer_id, channel, count(*) as clicks, max(occurred_at) as last_click_at
    from events
    where {{ human_click }} and channel is not null
    group by 1, 2
),

ranked_channels as (
    select
        customer_id,
        channel,
        row_number() over (
            partition by customer_id order by clicks desc, last_click_at desc, channel
        ) as choice
    from clicked_channels
)

select
    counts.*,
    {{ nextmove.per_day(velocity.recent) }} - {{ nextmove.per_day(velocity.usual) }} as engagement_velocity,
    ranked_channels.channel as preferred_channel
from counts
left join ranked_channels
    on counts.customer_id = ranked_channels.customer_id and ranked_channels.choice = 1
