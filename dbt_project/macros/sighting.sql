{#-
  The distinct sets of identifiers that occur together on a row of `relation`, up to as_of.
  `identifiers` maps a kind to an expression; kinds it does not name are NULL.
-#}
{% macro sighting(relation, seen_at, identifiers) -%}
    select
        {%- for kind in nextmove.identifier_kinds() %}
        {{ identifiers.get(kind, 'cast(null as text)') }} as {{ kind }},
        {%- endfor %}
        min({{ seen_at }}) as first_seen_at,
        max({{ seen_at }}) as last_seen_at
    from {{ relation }}
    where {{ seen_at }} <= {{ nextmove.as_of() }}
    group by 1, 2, 3, 4, 5, 6
{%- endmacro %}
