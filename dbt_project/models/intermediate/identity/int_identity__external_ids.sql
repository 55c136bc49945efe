with identity as (
    select * from {{ ref('int_identity__map') }}
),

merges as (
    select * from {{ ref('int_identity__merges') }}
)

select identifier_value as external_id, customer_id
from identity
where identifier_kind = 'user_id'
union all
select distinct customer_id as external_id, customer_id
from identity
union all
select old_customer_id as external_id, customer_id
from merges
